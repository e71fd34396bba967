"""What was admitted in the last second is what `pusher.accept` counts. Who forgets what is older?"""

from datetime import UTC, datetime

from outbox.lines import Connection

FROM_THE_START = datetime(1970, 1, 1, tzinfo=UTC)
SLICE = 2_000


async def forget(connection: Connection, *, since: datetime = FROM_THE_START) -> tuple[bool, datetime]:
    """One slice of the runs that are over a minute old: whether there are more, and the next call's `since`.

    From the start it also walks what is dead and can't be cleaned up yet, so do that once and then go on.
    """
    cursor = await connection.execute("SELECT * FROM pusher.forget(%s, %s)", [since, SLICE], prepare=True)
    row = await cursor.fetchone()
    return (row[0] == SLICE, row[1]) if row else (False, since)
