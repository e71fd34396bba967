"""What the web server runs: the receiver, the health checks, the metrics and Django behind one port."""

import os

from django.conf import settings
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
_django = get_wsgi_application()

from api import measured  # noqa: E402 - Django is set up first
from api.bridge import Bridge  # noqa: E402
from api.doors import Doors  # noqa: E402
from api.health import Health  # noqa: E402
from api.metrics import Metrics  # noqa: E402
from api.receiver import Receiver  # noqa: E402
from outbox.intake import Intake  # noqa: E402

THREADS = 8  # as many as the pool has connections

_intake = Intake()
_receiver = Receiver(_intake, most_bytes=settings.MAX_EVENT_BYTES)
application = Doors(
    intake=_intake,
    receiving=_receiver,
    checking=Health(),
    measuring=Metrics(_receiver.answered, ask=measured.state, token=settings.METRICS_TOKEN),
    django=Bridge(_django, threads=THREADS, most_bytes=settings.DATA_UPLOAD_MAX_MEMORY_SIZE),
)
