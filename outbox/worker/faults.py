"""What goes into the log when something fails again and again? Each kind once a minute, with a count."""

import asyncio
import logging
import random

import psycopg

from config import told
from outbox.worker import clock

logger = logging.getLogger("outbox.worker")

EVERY_SECONDS = 60.0
LONGEST_PAUSE_SECONDS = 5.0
FIRST_PAUSE_SECONDS = 0.1


class Faults:
    """Counts failures by kind; the first of a minute is logged, at once."""

    def __init__(self) -> None:
        self._logged: dict[str, float] = {}
        self._silent: dict[str, int] = {}

    def note(self, what: str, error: BaseException) -> None:
        kind = f"{what}: {told.words(error)}"
        now = clock.now()
        if now - self._logged.get(kind, -EVERY_SECONDS) < EVERY_SECONDS:
            self._silent[kind] = self._silent.get(kind, 0) + 1
            return
        self._forget_old(now)
        self._logged[kind] = now
        again = self._silent.pop(kind, 0)
        expected = isinstance(error, psycopg.Error | OSError)
        logger.warning(
            "%s failed%s: %s",
            what,
            f" ({again} times more in the last minutes)" if again else "",
            told.words(error),
            # What nobody foresaw needs its place in the code.
            exc_info=None if expected else error,
        )

    def _forget_old(self, now: float) -> None:
        for kind in [kind for kind, at in self._logged.items() if now - at > 10 * EVERY_SECONDS]:
            del self._logged[kind]
            self._silent.pop(kind, None)


class Pause:
    """Growing pauses with full jitter, so that many workers do not come back to a database at once."""

    def __init__(self) -> None:
        self._failures = 0

    def reset(self) -> None:
        self._failures = 0

    def next(self) -> float:
        """How many seconds to pause this time."""
        longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(self._failures, 10))
        self._failures += 1
        return random.uniform(0.2, 1.0) * longest  # noqa: S311 - spreading, not secrecy

    async def wait(self) -> None:
        await asyncio.sleep(self.next())
