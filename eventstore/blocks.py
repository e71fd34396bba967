"""Who puts the events in order? Whoever calls seal: the next block is what was committed
since the last one.

One statement in autocommit each, so that a process that is stopped in the middle holds nobody up.
"""

from datetime import timedelta
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from eventstore import connections
from eventstore.events import SCOPE

MOST_EVENTS = 10_000
"""In one block, about: after a stall, the backlog is cut into several."""

_SEAL = "SELECT pusher.seal(%s::smallint, %s, %s)"


async def seal(
    connection: psycopg.AsyncConnection[Any], *, most: int = MOST_EVENTS, age: timedelta = timedelta(0)
) -> int | None:
    """The number of the block; None when nothing was new, somebody else is sealing, or the last block is
    younger than `age`.

    Raises RuntimeError inside a transaction; after a restore psycopg's error, see `history.is_restored`.
    """
    outside_of_transactions(connection)
    row = await (await connection.execute(_SEAL, [SCOPE, most, age], prepare=True)).fetchone()
    return row[0] if row else None


def seal_all(*, most: int = MOST_EVENTS) -> int:
    """Seal until nothing is new, and say how many blocks that made."""
    sealed = 0
    with connections.connect_sync(name="data-pusher seal") as connection:
        parameters = [SCOPE, most, timedelta(0)]
        while (row := connection.execute(_SEAL, parameters).fetchone()) and row[0] is not None:
            sealed += 1
    return sealed


def outside_of_transactions(connection: psycopg.AsyncConnection[Any]) -> None:
    idle = connection.info.transaction_status == TransactionStatus.IDLE
    if not (connection.autocommit and idle):
        raise RuntimeError(
            "sealing and projecting are single statements in autocommit, never in a transaction"
        )
