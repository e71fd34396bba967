"""What is recorded of a change? Who changed what, by ids, names of fields, numbers and switches.

Never what a field says (a name, a URL, a header's value, an address): events are for ever, people's data is
not.
"""

from typing import Any
from uuid import UUID

from accounts.models import User
from eventstore import append
from eventstore.events import NO_ACCOUNT, NewEvent


def record(type_: str, *, account_id: UUID, stream_id: UUID, actor: User | None, **data: Any) -> None:
    """Append one event; the caller is in a transaction and holds the lock of what the stream is about.

    Without an actor it is the program's own doing.
    """
    facts = {name: str(fact) if isinstance(fact, UUID) else fact for name, fact in data.items()}
    if actor is not None:
        facts["actor"] = str(actor.pk)
    append.append([NewEvent(type=type_, account_id=account_id, stream_id=stream_id, data=facts)])


def record_of_user(type_: str, user: User, *, actor: User | None) -> None:
    """A user belongs to no account."""
    record(type_, account_id=NO_ACCOUNT, stream_id=user.pk, actor=actor)
