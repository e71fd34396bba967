"""Short ways to append, seal and look, for tests on real connections."""

from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg.types.json import Jsonb

type Connection = psycopg.Connection[Any]

ACCOUNT = UUID("00000000-0000-7000-8000-00000000a11c")

_APPEND = (
    "SELECT pusher.append(0::smallint, %s::uuid[], %s::uuid[], NULL, %s::text[], %s::jsonb[], NULL, NULL)"
)


def append(
    connection: Connection,
    *streams: UUID,
    count: int = 1,
    account: UUID = ACCOUNT,
    kind: str = "thing.happened",
    data: Any = None,
) -> None:
    """An event for each stream (fresh ones when none is named), as the next of its stream."""
    named = list(streams) or [uuid4() for _ in range(count)]
    values = Jsonb({} if data is None else data)
    connection.execute(_APPEND, [[account] * len(named), named, [kind] * len(named), [values] * len(named)])


def append_as(connection: Connection, account: UUID, stream: UUID, kind: str, **data: Any) -> None:
    append(connection, stream, account=account, kind=kind, data=data)


def seal(connection: Connection, most: int = 10_000) -> int | None:
    row = connection.execute("SELECT pusher.seal(0::smallint, %s)", [most]).fetchone()
    assert row is not None
    return row[0]


def seal_all(connection: Connection, most: int = 10_000) -> int:
    """The number of blocks that this made."""
    sealed = 0
    while seal(connection, most) is not None:
        sealed += 1
    return sealed


def project(connection: Connection, name: str = "delivery_log", blocks: int = 100) -> int:
    row = connection.execute("SELECT pusher.project(%s, %s)", [name, blocks]).fetchone()
    assert row is not None
    return row[0]


def history(connection: Connection, after: int = 0) -> list[tuple[int, int, UUID, int]]:
    """Position, block, stream and version of all that is sealed, in order."""
    return connection.execute(
        """
        SELECT p.position, p.block, e.stream_id, e.version
          FROM event_position p
          JOIN event e ON (e.scope, e.epoch, e.xid, e.seq) = (p.scope, p.epoch, p.xid, p.seq)
         WHERE p.position > %s ORDER BY p.position
        """,
        [after],
    ).fetchall()


def number(connection: Connection, query: str, *values: object) -> Any:
    row = connection.execute(query, values).fetchone()
    assert row is not None
    return row[0]
