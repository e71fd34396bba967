"""Which resource stands at which path?"""

from rest_framework.routers import SimpleRouter

from api.views.accounts import Accounts
from api.views.auth import Authentication
from api.views.destinations import Destinations
from api.views.events import Events
from api.views.logs import Logs
from api.views.members import Members

ACCOUNT = "accounts/<str:account_id>"

router = SimpleRouter(use_regex_path=False)
router.register("auth", Authentication, "auth")
router.register("accounts", Accounts, "accounts")
router.register(f"{ACCOUNT}/destinations", Destinations, "destinations")
router.register(f"{ACCOUNT}/members", Members, "members")
router.register(f"{ACCOUNT}/logs", Logs, "logs")
router.register(f"{ACCOUNT}/events", Events, "events")

urlpatterns = router.urls
