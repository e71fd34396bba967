"""What else must go on while events are delivered? A few times a second every drain offers to do it.

Whoever comes first does it; the others find nothing to do. Each job may fail without the others noticing.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from delivery import projections
from eventstore import blocks, projector
from outbox import admissions, claims
from outbox.lines import Connection, Line
from outbox.worker import clock
from outbox.worker.faults import Faults, Pause

EVERY_SECONDS = 0.2
SEAL_SECONDS = 0.15
AT_ONCE_SECONDS = 0.05  # the job said that there is more
BLOCK_AGE = timedelta(seconds=0.1)  # at least, from block to block, however many drains offer to seal
FORGET_SECONDS = 5.0
HELD_SHARE = 4  # an old snapshot keeps what was held and came back in their way, and they walk it each time
MOST_REST_SECONDS = 5.0  # a database that stood still for a minute is not left alone for four


@dataclass(frozen=True, slots=True)
class Job:
    """`work` answers whether there is more to do at once; `found` hears when it did something.

    A job that found no more to do comes again after `rest` seconds at the earliest, and any after `share`
    times what it took, or MOST_REST_SECONDS.
    """

    name: str
    work: Callable[[Connection], Awaitable[bool]]
    found: Callable[[], None] | None = None
    rest: float = 0.0
    share: float = 0.0


class Housekeeping:
    """One per connection: its jobs follow one another; one that fails rests for a while, alone."""

    def __init__(
        self, line: Line, faults: Faults, jobs: Sequence[Job], *, every: float = EVERY_SECONDS
    ) -> None:
        self._line = line
        self._every = every
        self._faults = faults
        self._jobs = [_Turn(job) for job in jobs]

    async def run(self) -> None:
        while True:
            more = False
            for turn in self._jobs:
                if turn.not_before <= clock.now():
                    more |= await self._do(turn)
            pace = AT_ONCE_SECONDS if more else self._every
            await asyncio.sleep(random.uniform(0.8, 1.2) * pace)  # noqa: S311 - drains should not march in step

    async def _do(self, turn: "_Turn") -> bool:
        async def timed(connection: Connection) -> tuple[bool, float]:
            began = clock.now()  # not while others had the connection
            return await turn.job.work(connection), clock.now() - began

        try:
            more, took = await self._line.run(timed)
        except Exception as error:  # noqa: BLE001 - no job may stop the others, nor the delivering
            self._faults.note(turn.job.name, error)
            turn.not_before = clock.now() + turn.pause.next()
            return False
        turn.pause.reset()
        share = min(turn.job.share * took, MOST_REST_SECONDS)
        turn.not_before = clock.now() + max(share, 0.0 if more else turn.job.rest)
        if more and turn.job.found is not None:
            turn.job.found()
        return more


@dataclass(slots=True)
class _Turn:
    job: Job
    pause: Pause = field(default_factory=Pause)
    not_before: float = 0.0


def sealing() -> list[Job]:
    """Apart from those that follow it, however long they take: nothing has its place before it is sealed."""
    return [Job("sealing", _seal)]


def projecting() -> list[Job]:
    return [
        Job("projecting", _project),
        Job("counting", _count),
        Job("sweeping the log", _sweep),
    ]


def outbox(
    *,
    in_the_way: Callable[[], Sequence[UUID]],
    found: Callable[[], None],
    since: Callable[[], datetime | None],
) -> list[Job]:
    """`in_the_way`: whose rows this drain's claims pass over to get to others'; `found` wakes it: held rows
    came back.

    `since`: no ready row is older (see claims.Marks).
    """

    async def crowd(connection: Connection) -> bool:
        passed_over = in_the_way()
        return bool(passed_over) and await claims.crowd(connection, passed_over, since=since()) > 0

    after = claims.FROM_THE_START

    async def tend(connection: Connection) -> bool:
        nonlocal after
        tended = await claims.tend(connection, after=after, since=since())
        after = tended.goes_on_after
        return tended.released > 0

    async def purge(connection: Connection) -> bool:
        return await claims.purge(connection) > 0

    admitted_since = admissions.FROM_THE_START

    async def forget(connection: Connection) -> bool:
        nonlocal admitted_since
        more, admitted_since = await admissions.forget(connection, since=admitted_since)
        return more

    return [
        Job("tending", tend, found, share=HELD_SHARE),
        Job("holding the excess", crowd, share=HELD_SHARE),
        Job("purging", purge),
        Job("forgetting what was admitted", forget, rest=FORGET_SECONDS),
    ]


# A block's worth of time is all that these are behind, and it comes by itself: there is never more to do at
# once. (After a stall each brings ten thousand events and more.)
async def _seal(connection: Connection) -> bool:
    await blocks.seal(connection, age=BLOCK_AGE)
    return False


async def _sweep(connection: Connection) -> bool:
    return await projections.sweep(connection) > 0


async def _project(connection: Connection) -> bool:
    await projector.catch_up(connection, projections.NAME)
    return False


async def _count(connection: Connection) -> bool:
    await projector.catch_up(connection, projections.TOTALS)
    return False
