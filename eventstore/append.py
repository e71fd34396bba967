"""How does the program record a fact about its own change? In that change's transaction, or not at all."""

from collections.abc import Sequence

from django.db import connection

from eventstore.events import SCOPE, NewEvent

_APPEND = """
SELECT pusher.append(
    %s::smallint, %s::uuid[], %s::uuid[], NULL, %s::text[], %s::jsonb[], NULL, NULL
)
"""


def append(events: Sequence[NewEvent]) -> None:
    """Append, in order, as the next versions of their streams; under the lock of what they are about.

    Raises RuntimeError outside of `transaction.atomic`: the fact and the change must stand or fall together.
    """
    if not connection.in_atomic_block:
        raise RuntimeError("append() belongs inside transaction.atomic, beside the change that it records")
    if not events:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            _APPEND,
            [
                SCOPE,
                [str(event.account_id) for event in events],
                [str(event.stream_id) for event in events],
                [event.type for event in events],
                [event.json() for event in events],
            ],
        )
