"""How do many callers share one question to the database? One thread asks, once a second at most."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from django.db import connection

KEPT_SECONDS = 1.0


class Asking[T]:
    """`ask` must not raise: whoever joins an answer under way gets that answer."""

    def __init__(self, ask: Callable[[], T], *, name: str) -> None:
        self._ask = ask
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._asking: asyncio.Future[T] | None = None
        self._known: tuple[T, float] | None = None

    async def current(self, *, patience_seconds: float) -> T | None:
        """An answer of the last second; None when there was none within the time."""
        if self._known is not None and time.monotonic() < self._known[1]:
            return self._known[0]
        if self._asking is None:
            self._asking = asyncio.get_running_loop().run_in_executor(self._thread, self._asked)
        # A database that swallows the question keeps the thread, not the caller; the next caller joins.
        asking = self._asking
        done, _ = await asyncio.wait([asking], timeout=patience_seconds)
        if not done:
            return None
        if self._asking is asking:
            self._asking = None
            self._known = asking.result(), time.monotonic() + KEPT_SECONDS
        return asking.result()

    def close(self) -> None:
        self._thread.shutdown(wait=False)

    def _asked(self) -> T:
        try:
            return self._ask()
        finally:
            connection.close()
