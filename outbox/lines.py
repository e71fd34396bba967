"""How do we keep a connection to a database that comes and goes? A line opens it when it is needed."""

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg

from eventstore import connections

type Connection = psycopg.AsyncConnection[Any]


class Line:
    """One connection, used by one coroutine at a time; lost ones are replaced at the next use."""

    def __init__(self, name: str, *, statement_timeout_ms: int = 0) -> None:
        self._name = f"data-pusher {name} {os.getpid()}"  # for pg_stat_activity
        self._statement_timeout_ms = statement_timeout_ms
        self._connection: Connection | None = None
        self._lock = asyncio.Lock()

    async def run[T](self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Raises what the work raises; OperationalError when there is no connection to be had."""
        async with self._lock:
            connection = await self._open()
            try:
                return await work(connection)
            except BaseException:
                # Only a connection that is surely at rest may be used again.
                if (
                    connection.closed
                    or connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE
                ):
                    await self._drop()
                raise

    async def close(self) -> None:
        async with self._lock:
            await self._drop()

    async def _open(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = await connections.connect(
                name=self._name, statement_timeout_ms=self._statement_timeout_ms
            )
        return self._connection

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error, OSError):
                await connection.close()
