"""How do workers hear of new work at once? By NOTIFY, after the commit, at most one in 5 ms a process; under
load one in 20 ms, since workers who have something to do come back by themselves.

NOTIFY inside the accepting transaction would take a lock that serialises all commits; a lost one costs no
more than the second until the next poll.
"""

import asyncio

import psycopg
from django.db import connection, transaction

from outbox.lines import Line

CHANNEL = "outbox"
PAUSE_SECONDS = 0.005
LOAD_PAUSE_SECONDS = 0.02
LOAD = 5  # notifications that followed each other without a rest
AFTER_FAULT_SECONDS = 0.5
STOP_SECONDS = 1.0


def after_commit() -> None:
    """For what Django's own connection commits. Robust: a lost one costs a second, not the answer."""
    transaction.on_commit(_notify, robust=True)


def _notify() -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"NOTIFY {CHANNEL}")


class Waker:
    """A connection of its own, so that a notification never waits behind a batch."""

    def __init__(self) -> None:
        self._wanted = asyncio.Event()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        self._stopping = True
        self._wanted.set()
        if self._task is not None:
            # A connect that is cancelled half-way would leave its session behind.
            await asyncio.wait([self._task], timeout=STOP_SECONDS)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def wake(self) -> None:
        """Something may be due. Cheap: sets a flag."""
        self._wanted.set()

    async def _run(self) -> None:
        line = Line("waker", statement_timeout_ms=1000)
        in_a_row = 0
        try:
            while True:
                in_a_row = in_a_row + 1 if self._wanted.is_set() else 0
                await self._wanted.wait()
                if self._stopping:
                    return
                self._wanted.clear()
                try:
                    await line.run(lambda connection: connection.execute(f"NOTIFY {CHANNEL}"))
                except (psycopg.Error, OSError):  # the poll finds it
                    await asyncio.sleep(AFTER_FAULT_SECONDS)
                await asyncio.sleep(PAUSE_SECONDS if in_a_row < LOAD else LOAD_PAUSE_SECONDS)
        finally:
            await line.close()
