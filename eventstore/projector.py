"""How do read models follow the history? Whole blocks at a time, in order, each with its effect exactly once.

`pusher.project` moves the checkpoint and applies the events in one transaction of the server.
A projection is a name, a function `pusher.project_<name>`, and tables that nobody else writes.
"""

from typing import Any

import psycopg
from django.db.models import QuerySet

from eventstore import connections
from eventstore.blocks import outside_of_transactions
from eventstore.models import Projection

BLOCKS = 100
_PROJECT = "SELECT pusher.project(%s, %s)"


async def catch_up(connection: psycopg.AsyncConnection[Any], name: str, *, blocks: int = BLOCKS) -> int:
    """Bring a projection forward by up to so many blocks. Returns those applied: 0 when another is at it."""
    outside_of_transactions(connection)
    row = await (await connection.execute(_PROJECT, [name, blocks], prepare=True)).fetchone()
    return row[0] if row else 0


def catch_up_all(name: str) -> int:
    """Bring a projection to the last block, and say how many that were."""
    applied = 0
    with connections.connect_sync(name="data-pusher project") as connection:
        while (row := connection.execute(_PROJECT, [name, BLOCKS]).fetchone()) and row[0]:
            applied += row[0]
    return applied


def active(name: str) -> QuerySet[Projection, int]:
    """The version that readers see, as a subquery: one statement reads it and the rows, so they agree."""
    return Projection.objects.filter(name=name).values_list("active", flat=True)[:1]
