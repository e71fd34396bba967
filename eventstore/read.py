"""What has happened? The sealed history of an account, in order, and single streams up to this moment."""

import json
from typing import Any
from uuid import UUID

from django.db import connection

from eventstore.events import RecordedEvent

# A page's positions first: so the plan walks two indexes and nothing else.
_SEALED = """
SELECT p.position, e.type, e.account_id, e.stream_id, e.version, e.recorded_at, e.payload_digest, e.data::text
  FROM (SELECT * FROM event_position WHERE account_id = %s AND position > %s ORDER BY position LIMIT %s) p
  JOIN event e ON e.scope = p.scope AND e.epoch = p.epoch AND e.xid = p.xid AND e.seq = p.seq
 ORDER BY p.position
"""
_STREAM = """
SELECT NULL, e.type, e.account_id, e.stream_id, e.version, e.recorded_at, e.payload_digest, e.data::text
  FROM event e WHERE e.account_id = %s AND e.stream_id = %s ORDER BY e.version
"""


def sealed(account_id: UUID, *, after: int = 0, most: int = 100) -> list[RecordedEvent]:
    """The account's events after a position, in the order of the sealed history."""
    return _events(_SEALED, [account_id, after, most])


def stream(account_id: UUID, stream_id: UUID) -> list[RecordedEvent]:
    """All events of one stream in order, sealed or not; their `position` is not looked up."""
    return _events(_STREAM, [account_id, stream_id])


def _events(query: str, parameters: list[Any]) -> list[RecordedEvent]:
    with connection.cursor() as cursor:
        cursor.execute(query, parameters)
        return [_event(*row) for row in cursor.fetchall()]


def _event(*row: Any) -> RecordedEvent:
    position, kind, account_id, stream_id, version, recorded_at, digest, data = row
    return RecordedEvent(
        position=position,
        type=kind,
        account_id=account_id,
        stream_id=stream_id,
        version=version,
        recorded_at=recorded_at,
        payload_digest=None if digest is None else bytes(digest),
        data=json.loads(data),  # not orjson: it reads large integers as floats
    )
