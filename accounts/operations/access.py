"""May the actor do this, now that the thing is locked?"""

from uuid import UUID

from accounts import queries, roles
from accounts.models import Account, Destination, User
from accounts.queries import NotFound
from accounts.roles import Action


class NotAllowed(Exception):
    """The actor's role doesn't permit this; the message says what."""


def require(actor: User, account_id: UUID, action: Action) -> None:
    """Raises NotFound to a stranger, who may not know of the account, and NotAllowed to a member."""
    role = queries.role_of(actor.pk, account_id)
    if role is None:
        raise NotFound
    if not roles.permits(role, action):
        raise NotAllowed(action)


def lock_account(actor: User, account_id: UUID, action: Action, *, deleting: bool = False) -> Account:
    """The account, locked against every other operation on it or its members.

    The role is read after the lock: an Admin who was removed while this waited is none any more.
    """
    account = Account.objects.select_for_update(no_key=not deleting).filter(pk=account_id).first()
    if account is None:
        raise NotFound
    require(actor, account_id, action)
    return account


def lock_destination(actor: User, account_id: UUID, destination_id: UUID, action: Action) -> Destination:
    rows = Destination.objects.select_for_update(no_key=True)
    destination = rows.filter(pk=destination_id, account=account_id).first()
    require(actor, account_id, action)
    if destination is None:
        raise NotFound
    return destination
