"""One timer for many deadlines: each is kept, none is early, and nothing is left behind."""

import asyncio
import time

import pytest

from config.deadlines import GRAIN_SECONDS, count, within


def test_what_is_late_ends_with_a_timeout_within_the_grain() -> None:
    async def late(seconds: float) -> float:
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            async with within(seconds):
                await asyncio.sleep(10)
        return time.monotonic() - began - seconds

    async def main() -> None:
        lateness = await asyncio.gather(*(late(seconds / 100) for seconds in range(1, 40)))
        assert min(lateness) >= 0
        assert max(lateness) < GRAIN_SECONDS + 0.2  # and a busy machine
        assert count() == 0

    asyncio.run(main())


def test_what_is_in_time_hears_nothing_of_it() -> None:
    async def main() -> None:
        async with within(GRAIN_SECONDS):
            pass
        await asyncio.sleep(4 * GRAIN_SECONDS)  # the time is over, but so is the context
        assert count() == 0

    asyncio.run(main())


def test_errors_and_cancellation_from_elsewhere_pass_as_they_are() -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match="mine"):
            async with within(5):
                raise ValueError("mine")

        async def wait() -> None:
            async with within(5):
                await asyncio.sleep(10)

        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert count() == 0

    asyncio.run(main())


def test_it_looks_again_after_it_had_nothing_to_look_at() -> None:
    async def main() -> None:
        for _ in range(2):
            with pytest.raises(TimeoutError):
                async with within(0.01):
                    await asyncio.sleep(10)
            await asyncio.sleep(2 * GRAIN_SECONDS)

    asyncio.run(main())
