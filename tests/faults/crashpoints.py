"""Where can a worker die? At named points of the real code, reached from outside: the product knows of none.

A Django app that only the suite's settings install. It wraps the functions at these points, in the worker's
own processes; whoever comes to a point that is armed (a file of that name) takes the file away and kills or
stops itself there. What is uncommitted has done its work in the database, and dies before its COMMIT:

    claimed | answered | settled                 the step is done
    claiming | settling | sealing | projecting   it is done, but uncommitted
"""

import datetime as dt
import os
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
from django.apps import AppConfig

COMMITTED = ("claimed", "answered", "settled")
UNCOMMITTED = ("claiming", "settling", "sealing", "projecting")
POINTS = (*COMMITTED, *UNCOMMITTED)
FOLDER = "FAULTS_FOLDER"
CLOCK = "clock"  # a file: "slot seconds", by which that slot's next drain is off

type Step = Callable[..., Awaitable[Any]]


class CrashPoints(AppConfig):
    name = "tests.faults.crashpoints"
    label = "crashpoints"

    def ready(self) -> None:
        if FOLDER in os.environ:
            _install(Path(os.environ[FOLDER]))


def _install(folder: Path) -> None:
    from delivery.attempt import Sender
    from eventstore import blocks, projector
    from outbox import claims, worker

    claims.claim = _uncommitted(folder / "claiming", _after(folder / "claimed", claims.claim, _brought_rows))
    claims.settle = _uncommitted(folder / "settling", _after(folder / "settled", claims.settle))
    Sender.send = _after(folder / "answered", Sender.send)
    blocks.seal = _uncommitted(folder / "sealing", blocks.seal)
    projector.catch_up = _uncommitted(folder / "projecting", projector.catch_up)
    # Both refuse a transaction, rightly: nothing of ours may be stopped in one. Here it is what we want.
    blocks.outside_of_transactions = projector.outside_of_transactions = lambda _: None
    worker.drain = _by_another_clock(folder / CLOCK, worker.drain)


def _brought_rows(batch: Any) -> bool:
    return bool(batch.claims)


def _after(point: Path, step: Step, when: Callable[[Any], bool] = lambda _: True) -> Step:
    async def crashing(*args: Any, **kwargs: Any) -> Any:
        answer = await step(*args, **kwargs)
        if when(answer):
            _reached(point)
        return answer

    return crashing


def _uncommitted(point: Path, step: Step) -> Step:
    async def crashing(connection: psycopg.AsyncConnection[Any], *args: Any, **kwargs: Any) -> Any:
        if not point.exists():
            return await step(connection, *args, **kwargs)
        async with connection.transaction():
            answer = await step(connection, *args, **kwargs)
            if getattr(answer, "claims", answer):  # a claim, a seal that found nothing is not worth dying in
                _reached(point)
        return answer

    return crashing


def _reached(point: Path) -> None:
    try:
        how = point.read_text()
        point.rename(point.with_name(f"{point.name}.{os.getpid()}"))
    except FileNotFoundError:
        return  # not armed, or another process was faster
    os.kill(os.getpid(), signal.Signals[how])


def _by_another_clock(file: Path, drain: Callable[..., Any]) -> Callable[..., Any]:
    def draining(*, slot: int, **kwargs: Any) -> Any:
        with suppress(FileNotFoundError):
            which, seconds = map(int, file.read_text().split())
            if which == slot:
                file.rename(file.with_name(f"{CLOCK}.{os.getpid()}"))
                _shift(seconds)
        return drain(slot=slot, **kwargs)

    return draining


def _shift(seconds: int) -> None:
    """What this process believes the time of day to be; C code that asks by itself is not reached."""
    from django.utils import timezone

    now, now_ns = time.time, time.time_ns
    time.time = lambda: now() + seconds
    time.time_ns = lambda: now_ns() + seconds * 10**9
    django_now = timezone.now
    timezone.now = lambda: django_now() + dt.timedelta(seconds=seconds)


class Arm:
    """The other side: arms a point, and hears which process it was."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def arm(self, point: str, how: signal.Signals = signal.SIGKILL) -> None:
        draft = self._folder / f".{point}"
        draft.write_text(how.name)
        draft.rename(self._folder / point)

    def shift_clock(self, *, slot: int, seconds: int) -> None:
        (self._folder / CLOCK).write_text(f"{slot} {seconds}")

    def disarm(self, point: str) -> None:
        (self._folder / point).unlink(missing_ok=True)

    def fired(self, point: str, *, within: float = 30) -> int | None:
        """The process that was hit; None when nobody came by in time."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            for file in self._folder.glob(f"{point}.*"):
                file.unlink()
                return int(file.suffix[1:])
            time.sleep(0.01)
        return None
