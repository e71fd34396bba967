"""What is recorded of a change? Who changed what, by ids, names of fields, numbers and switches.

Never what a field says (a name, a URL, a header's value, an address): events are for ever, people's data is
not.
"""

from enum import StrEnum
from typing import Any
from uuid import UUID

from accounts.models import User
from eventstore import append
from eventstore.events import NO_ACCOUNT, NewEvent


class Type(StrEnum):
    """Recorded for ever: a name is never changed, and never given to anything else. See docs/events.md."""

    ACCOUNT_CREATED = "account.created"
    ACCOUNT_UPDATED = "account.updated"
    ACCOUNT_DELETED = "account.deleted"
    TOKEN_CREATED = "token.created"  # noqa: S105  # a type's name
    TOKEN_ROTATED = "token.rotated"  # noqa: S105  # a type's name
    DESTINATION_CREATED = "destination.created"
    DESTINATION_UPDATED = "destination.updated"
    DESTINATION_PAUSED = "destination.paused"
    DESTINATION_RESUMED = "destination.resumed"
    DESTINATION_SECRET_ROTATED = "destination.secret_rotated"  # noqa: S105  # a type's name
    DESTINATION_TESTED = "destination.tested"  # a sample event was sent to it
    DESTINATION_DEACTIVATED = "destination.deactivated"  # by the program, because it said that it is gone
    DESTINATION_DELETED = "destination.deleted"
    MEMBER_ADDED = "member.added"
    MEMBER_UPDATED = "member.updated"
    MEMBER_REMOVED = "member.removed"
    USER_REGISTERED = "user.registered"
    USER_INVITED = "user.invited"
    USER_JOINED = "user.joined"  # by an invitation
    USER_LOGGED_IN = "user.logged_in"
    USER_LOGGED_OUT = "user.logged_out"
    USER_PASSWORD_CHANGED = "user.password_changed"  # noqa: S105  # a type's name
    USER_DEACTIVATED = "user.deactivated"
    USER_ACTIVATED = "user.activated"


def record(type_: Type, *, account_id: UUID, stream_id: UUID, actor: User | None, **data: Any) -> None:
    """Append one event; the caller is in a transaction and holds the lock of what the stream is about.

    Without an actor it is the program's own doing.
    """
    facts = {name: str(fact) if isinstance(fact, UUID) else fact for name, fact in data.items()}
    if actor is not None:
        facts["actor"] = str(actor.pk)
    append.append([NewEvent(type=type_, account_id=account_id, stream_id=stream_id, data=facts)])


def record_of_user(type_: Type, user: User, *, actor: User | None) -> None:
    """A user belongs to no account."""
    record(type_, account_id=NO_ACCOUNT, stream_id=user.pk, actor=actor)
