"""Attempts for the tests: one message, one target, one loop, and nothing left behind."""

import asyncio
import gc
import time
from collections.abc import Callable, Coroutine
from typing import Any
from uuid import UUID

import uvloop

from delivery.attempt import Sender
from delivery.message import Message, Target
from delivery.outcome import Outcome
from guard.addresses import Policy

LOOPBACK = Policy(["127.0.0.0/8"])
SECRET = b"k" * 32
DELIVERY_ID = UUID("019a0000-0000-7000-8000-000000000001")
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


def message(**changes: Any) -> Message:
    return Message(
        **({"delivery_id": DELIVERY_ID, "event_id": "e-1", "attempt": 1, "body": b'{"n": 1}'} | changes)
    )


def target(url: str, **changes: Any) -> Target:
    fields = {"url": url, "method": "POST", "headers": (), "secrets": (SECRET,), "timeout_seconds": 2.0}
    return Target(**(fields | changes))


def sender(**options: Any) -> Sender:
    return Sender(**({"policy": LOOPBACK, "connections": 64} | options))


def in_loop[T](work: Callable[[], Coroutine[Any, Any, T]], *, loop: str = "asyncio") -> T:
    """Run it in a fresh loop; whatever was not closed is a warning, and so an error, in this very test."""
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        result = runner.run(work())
    gc.collect(1)
    return result


def send(
    url: str, *, loop: str = "asyncio", options: dict[str, Any] | None = None, **changes: Any
) -> Outcome:
    """One attempt with a sender of its own."""

    async def work() -> Outcome:
        async with sender(**(options or {})) as one:
            outcome = await one.send(message(), target(url, **changes), now=time.time())
            left = {task for task in asyncio.all_tasks() if "_resolve_host" not in repr(task)}
            assert left == {asyncio.current_task()}, "an attempt left a task behind"
            return outcome

    return in_loop(work, loop=loop)
