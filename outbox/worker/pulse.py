"""Is this drain still wanted, and is there something to do?

It renews its slot each second, and listens in between.
"""

from collections.abc import Callable
from uuid import UUID

from psycopg import sql

from outbox import slots, wake
from outbox.lines import Connection, Line

BEAT_SECONDS = 1.0

_LISTEN = sql.SQL("LISTEN {}").format(sql.Identifier(wake.CHANNEL))


class Pulse:
    """A notification may get lost with its connection: the drain polls each second as well."""

    def __init__(self, line: Line, *, slot: int, owner: UUID, wake: Callable[[], None]) -> None:
        self._line = line
        self._slot = slot
        self._owner = owner
        self._wake = wake
        self._listening: Connection | None = None
        self.lost = False  # the slot is another's

    async def beat(self) -> None:
        await self._line.run(self._beat)

    async def _beat(self, connection: Connection) -> None:
        if connection is not self._listening:
            await connection.execute(_LISTEN)
            self._listening = connection
        if not await slots.renew(connection, slot=self._slot, owner=self._owner):
            self.lost = True
        async for _ in connection.notifies(timeout=BEAT_SECONDS):
            self._wake()
