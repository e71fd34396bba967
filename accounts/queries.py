"""What do others read of accounts?

Each query starts from what the caller may see; what isn't there is NotFound.
"""

from uuid import UUID

from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.db.models.functions import Now

from accounts import generations, tokens
from accounts.models import Account, Destination, IngestToken, Member, Role, User
from accounts.roles import IDS, NAMES, RoleName


class NotFound(Exception):
    """There is no such thing, or none that the caller may know of."""


def user_of_bearer(text: str) -> User | None:
    """The user whose access token this is, if it is valid now. Asks the database each time."""
    presented = tokens.parse_access(text)
    if presented is None:
        return None
    valid = User.objects.filter(
        is_active=True, access_tokens__digest=presented.digest, access_tokens__expires_at__gt=Now()
    )
    with generations.past_the_cache():
        user = valid.annotate(generation=generations.Generation()).first()
    if user is None:
        return None
    generations.found(user.generation)
    return user


def role_of(user_id: UUID, account_id: UUID) -> RoleName | None:
    """None: not a member, or there is no such account, or the user was deactivated since they were let in."""
    members = Member.objects.filter(account=account_id, user=user_id, user__is_active=True)
    with generations.past_the_cache():
        role_id = members.values_list("role_id", flat=True).first()
    return None if role_id is None else NAMES[role_id]


def may_create_accounts(user: User) -> bool:
    is_admin = Exists(Member.objects.filter(user=OuterRef("pk"), role=IDS[RoleName.ADMIN]))
    with generations.past_the_cache():
        return User.objects.filter(Q(registered=True) | is_admin, pk=user.pk, is_active=True).exists()


def accounts_of(user: User) -> QuerySet[Account]:
    """The user's accounts, with `member_role_id`."""
    return Account.objects.filter(members__user=user).annotate(member_role_id=F("members__role_id"))


def account(user: User, account_id: UUID) -> Account:
    """Raises NotFound."""
    return _one(accounts_of(user).filter(pk=account_id))


def tokens_of(account_id: UUID) -> QuerySet[IngestToken]:
    """The tokens that are valid now, the newest first."""
    valid = Q(expires_at__isnull=True) | Q(expires_at__gt=Now())
    return IngestToken.objects.filter(valid, account=account_id).order_by("-created_at", "-id")


def destinations_of(account_id: UUID) -> QuerySet[Destination]:
    return Destination.objects.filter(account=account_id)


def destinations_by_url(account_id: UUID, text: str) -> list[UUID]:
    """Those whose URL contains the text, in upper or lower case."""
    return list(destinations_of(account_id).filter(url__icontains=text).values_list("pk", flat=True))


def destination(account_id: UUID, destination_id: UUID) -> Destination:
    """Raises NotFound."""
    return _one(destinations_of(account_id).filter(pk=destination_id))


def members_of(account_id: UUID) -> QuerySet[Member]:
    # A hash of a password has no business in a cache.
    rows = Member.objects.filter(account=account_id).select_related("user", "role")
    return rows.defer("user__password")


def member(account_id: UUID, member_id: UUID) -> Member:
    """Raises NotFound."""
    return _one(members_of(account_id).filter(pk=member_id))


def roles() -> QuerySet[Role]:
    return Role.objects.order_by("id")


def exists(account_id: UUID) -> bool:
    return Account.objects.filter(pk=account_id).exists()


def _one[Row: (Account, Destination, Member)](rows: QuerySet[Row]) -> Row:
    row = rows.first()
    if row is None:
        raise NotFound
    return row
