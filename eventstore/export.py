"""How does an auditor take the history along? As lines of JSON, each exactly what its leaf is the hash of.

A leaf is SHA-256 over one byte 00 and the line without its newline.
"""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import psycopg

PORTION = 10_000

_LINES = """
SELECT p.position, pusher.line(e)
  FROM (SELECT * FROM event_position WHERE account_id = %s AND position > %s ORDER BY position LIMIT %s) p
  JOIN event e ON e.scope = p.scope AND e.epoch = p.epoch AND e.xid = p.xid AND e.seq = p.seq
 ORDER BY p.position
"""


def lines(
    connection: psycopg.Connection[Any], account_id: UUID, *, after: int = 0
) -> Iterator[tuple[int, str]]:
    """The account's sealed events after a position, as position and line; read in short transactions."""
    while rows := connection.execute(_LINES, [account_id, after, PORTION]).fetchall():
        yield from rows
        after = rows[-1][0]
