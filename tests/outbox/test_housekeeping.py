"""When does a job of the housekeeping come again?"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest

from outbox.lines import Connection, Line
from outbox.worker import clock, housekeeping
from outbox.worker.faults import Faults
from outbox.worker.housekeeping import Housekeeping, Job

pytestmark = pytest.mark.usefixtures("database")

type Work = Callable[[Connection], Awaitable[bool]]


def begun(
    work: Work, *, share: float = 0.0, rest: float = 0.0, seconds: float, others: float = 0.0
) -> list[float]:
    """When the work began, counted from when `others`, who have the connection at first, gave it back."""
    moments: list[float] = []

    async def told(connection: Connection) -> bool:
        moments.append(clock.now())
        return await work(connection)

    async def run() -> float:
        line = Line("housekeeping")

        async def have(_: Connection) -> None:
            await asyncio.sleep(others)

        having = asyncio.create_task(line.run(have))
        await asyncio.sleep(0)
        house = Housekeeping(line, Faults(), [Job("a job", told, share=share, rest=rest)], every=0.02)
        keeping = asyncio.create_task(house.run())
        await having
        free = clock.now()
        await asyncio.sleep(seconds)
        keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping
        await line.close()
        return free

    free = asyncio.run(run())
    return [moment - free for moment in moments]


async def nothing(_: Connection) -> bool:
    return False


async def a_while(_: Connection) -> bool:
    await asyncio.sleep(0.1)
    return False


async def more(_: Connection) -> bool:
    return True


def test_a_job_rests_for_its_share_of_the_time_that_it_took():
    assert len(begun(a_while, seconds=0.45, share=8)) == 1
    assert len(begun(a_while, seconds=0.45)) > 2


def test_a_job_that_took_long_is_not_left_for_many_times_as_long(monkeypatch):
    monkeypatch.setattr(housekeeping, "MOST_REST_SECONDS", 0.05)
    assert len(begun(a_while, seconds=0.45, share=8)) > 1


def test_a_job_that_waited_for_the_connection_does_not_rest_for_that():
    assert len(begun(nothing, seconds=0.3, share=8, others=0.3)) > 2


def test_a_job_rests_when_there_is_no_more_to_do():
    assert len(begun(nothing, seconds=0.5, rest=0.4)) == 2
    assert len(begun(more, seconds=0.5, rest=0.4)) > 2
