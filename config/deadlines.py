"""How do thousands of exchanges have a deadline each without a timer each?

A timer of its own costs an event loop (uvloop most of all) more than most of an exchange's other bookkeeping,
and hardly one of them ever fires. So one timer looks many times a second at all that are open.
"""

import asyncio
import weakref
from types import TracebackType

GRAIN_SECONDS = 0.05


class within:  # noqa: N801 - used as asyncio.timeout is
    """As `asyncio.timeout(seconds)`: an asynchronous context that ends with TimeoutError when it is late.

    Never early, and at most GRAIN_SECONDS after its time.
    """

    __slots__ = ("_open", "_seconds", "_timeout")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._timeout = asyncio.timeout(None)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()
        loop = asyncio.get_running_loop()
        found = _open.get(loop)
        self._open = found if found is not None else _open.setdefault(loop, _Open())
        self._open.add(self._timeout, self._seconds)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.remove(self._timeout)
        await self._timeout.__aexit__(kind, error, trace)


def count() -> int:
    """How many are open in the running loop."""
    found = _open.get(asyncio.get_running_loop())
    return len(found.until) if found is not None else 0


class _Open:
    """What is open in one event loop, and until when by its clock."""

    def __init__(self) -> None:
        self.until: dict[asyncio.Timeout, float] = {}
        self._looking = False

    def add(self, timeout: asyncio.Timeout, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self.until[timeout] = loop.time() + seconds
        if not self._looking:
            self._looking = True
            loop.call_later(GRAIN_SECONDS, self._look)

    def remove(self, timeout: asyncio.Timeout) -> None:
        self.until.pop(timeout, None)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for timeout in [timeout for timeout, until in self.until.items() if until <= now]:
            del self.until[timeout]
            timeout.reschedule(now)
        self._looking = bool(self.until)
        if self._looking:
            loop.call_later(GRAIN_SECONDS, self._look)


_open: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Open] = weakref.WeakKeyDictionary()
