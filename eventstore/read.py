"""What has happened? The sealed history of an account, in order, and single streams up to this moment."""

import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import connection

from eventstore.events import RecordedEvent

# A page's positions first: so the plan walks two indexes and nothing else.
_SEALED = """
SELECT p.position, p.block, e.type, e.account_id, e.stream_id, e.version, e.recorded_at, e.payload_digest,
       e.data::text
  FROM (SELECT * FROM event_position WHERE account_id = %s AND position > %s ORDER BY position LIMIT %s) p
  JOIN event e ON e.scope = p.scope AND e.epoch = p.epoch AND e.xid = p.xid AND e.seq = p.seq
 ORDER BY p.position
"""
_STREAM = """
SELECT NULL, NULL, e.type, e.account_id, e.stream_id, e.version, e.recorded_at, e.payload_digest, e.data::text
  FROM event e WHERE e.account_id = %s AND e.stream_id = %s ORDER BY e.version DESC LIMIT %s
"""
# What a page would have to follow in order to end where this one begins: one index, walked backwards.
_BEFORE = """
SELECT count(*), min(p.position)
  FROM (SELECT position FROM event_position WHERE account_id = %s AND position <= %s
         ORDER BY position DESC LIMIT %s) p
"""
# A delivery's id begins with the 48 bits of its event's that tell the time (outbox/sql/delivery_id.sql).
_RECEIVED = """
SELECT NULL, NULL, e.type, e.account_id, e.stream_id, e.version, e.recorded_at, e.payload_digest, e.data::text
  FROM event e
 WHERE e.account_id = %s AND e.stream_id BETWEEN %s AND %s AND e.version = 1
   AND e.type = 'event.received' AND e.data -> 'deliveries' @> %s::jsonb
"""
_TIMELESS = (1 << 80) - 1


@dataclass(frozen=True, slots=True)
class Page:
    """A part of an account's sealed history. Positions to read on from: None at the end, or at the start."""

    events: list[RecordedEvent]
    next_after: int | None
    previous_after: int | None


def sealed(account_id: UUID, *, after: int = 0, most: int = 100) -> list[RecordedEvent]:
    """The account's events after a position, in the order of the sealed history."""
    return _events(_SEALED, [account_id, after, most])


def page(account_id: UUID, *, after: int, most: int) -> Page:
    """Blocks are sealed one after another, each whole: whoever reads on after the last position seen misses
    nothing, however many are being sealed.
    """
    found = sealed(account_id, after=after, most=most + 1)
    shown = found[:most]
    return Page(
        events=shown,
        next_after=shown[-1].position if len(found) > most else None,
        previous_after=_before(account_id, after, most),
    )


def _before(account_id: UUID, after: int, most: int) -> int | None:
    if after == 0:
        return None
    with connection.cursor() as cursor:
        cursor.execute(_BEFORE, [account_id, after, most + 1])
        number, position = cursor.fetchone()
    if number == 0:
        return None
    return int(position) if number > most else 0


def received(account_id: UUID, delivery_id: UUID) -> RecordedEvent | None:
    """The event that this delivery is of."""
    first = UUID(int=delivery_id.int & ~_TIMELESS)
    last = UUID(int=delivery_id.int | _TIMELESS)
    found = _events(_RECEIVED, [account_id, first, last, json.dumps([[str(delivery_id)]])])
    # The pairs name destinations as well.
    return next((event for event in found if str(delivery_id) in dict(event.data["deliveries"])), None)


def stream(account_id: UUID, stream_id: UUID, *, last: int | None = None) -> list[RecordedEvent]:
    """All events of one stream (or so many at its end) in order, sealed or not; without their `position`."""
    return _events(_STREAM, [account_id, stream_id, last])[::-1]


def _events(query: str, parameters: list[Any]) -> list[RecordedEvent]:
    with connection.cursor() as cursor:
        cursor.execute(query, parameters)
        return [_event(*row) for row in cursor.fetchall()]


def _event(*row: Any) -> RecordedEvent:
    position, block, kind, account_id, stream_id, version, recorded_at, digest, data = row
    return RecordedEvent(
        position=position,
        block=block,
        type=kind,
        account_id=account_id,
        stream_id=stream_id,
        version=version,
        recorded_at=recorded_at,
        payload_digest=None if digest is None else bytes(digest),
        data=json.loads(data),  # not orjson: it reads large integers as floats
    )
