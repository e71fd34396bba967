"""What must the outbox do when an account or a destination goes? In the same transaction, so nothing is lost.

The order to purge is a row: the workers work it off in slices, however large it is, and however often they
die.
"""

from typing import Any
from uuid import UUID

from django.db import connection

from accounts import signals

WHOLE_ACCOUNT = UUID(int=0)

# Locking the gate waits for an accept that is under way, and the next one reads the mark after its lock.
_CLOSE_GATE = """
INSERT INTO gate (account_id, deleted_at) VALUES (%s, clock_timestamp())
ON CONFLICT (account_id) DO UPDATE SET deleted_at = clock_timestamp()
"""
# A second order renews the first: who is about to drop that one (active again) has to wait for us.
_ORDER_PURGE = """
INSERT INTO purge (account_id, destination_id) VALUES (%s, %s)
ON CONFLICT (account_id, destination_id) DO UPDATE SET requested_at = clock_timestamp()
"""
_ACTIVE = "SELECT active FROM pusher.route WHERE destination_id = %s"


def connect() -> None:
    signals.account_deleting.connect(close_gate, dispatch_uid="outbox.close_gate")
    signals.destination_changed.connect(cancel_waiting, dispatch_uid="outbox.cancel_waiting")


def close_gate(*, account_id: UUID, **_: Any) -> None:
    """The account goes: no accept from now on, and what waits is cancelled."""
    with connection.cursor() as cursor:
        cursor.execute(_CLOSE_GATE, [account_id])
        cursor.execute(_ORDER_PURGE, [account_id, WHOLE_ACCOUNT])


def cancel_waiting(*, account_id: UUID, destination_id: UUID, **_: Any) -> None:
    """A destination that is gone or inactive gets nothing any more, also not what waits for it."""
    with connection.cursor() as cursor:
        cursor.execute(_ACTIVE, [destination_id])
        row = cursor.fetchone()
        if row is None or not row[0]:
            cursor.execute(_ORDER_PURGE, [account_id, destination_id])
