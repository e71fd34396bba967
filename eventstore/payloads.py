"""Where are the bytes that came in? Apart from the events: erased, they leave every proof valid.

An event keeps the digest of salt and bytes; both go together.
"""

from collections.abc import Collection
from uuid import UUID

from django.db import connection

_READ = "SELECT body FROM payload WHERE account_id = %s AND event_id = %s"
_READ_MANY = """
SELECT event_id, CASE WHEN octet_length(body) <= %s THEN body END
  FROM payload WHERE account_id = %s AND event_id = ANY(%s)
"""
_ERASE = "SELECT pusher.erase(%s, %s)"


def read(account_id: UUID, event_id: UUID) -> bytes | None:
    """The bytes exactly as they came in; None when they were erased."""
    with connection.cursor() as cursor:
        cursor.execute(_READ, [account_id, event_id])
        row = cursor.fetchone()
    return bytes(row[0]) if row else None


def read_many(account_id: UUID, event_ids: Collection[UUID], *, at_most: int) -> dict[UUID, bytes | None]:
    """The bytes of several events: None for those over `at_most` bytes; erased ones are left out."""
    with connection.cursor() as cursor:
        cursor.execute(_READ_MANY, [at_most, account_id, list(event_ids)])
        rows = cursor.fetchall()
    return {event_id: None if body is None else bytes(body) for event_id, body in rows}


def erase(account_id: UUID, *, most: int) -> int:
    """Erase up to so many payloads of an account; 0: none are left, or others are erasing them."""
    with connection.cursor() as cursor:
        cursor.execute(_ERASE, [account_id, most])
        (erased,) = cursor.fetchone()
    return int(erased)
