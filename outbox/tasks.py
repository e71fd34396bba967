"""What does Django-Q2 run for us? The drains, each minute a look whether one is missing, each hour a sweep.

Nothing depends on its tables: a task that comes twice finds its slot taken, and lost ones are enqueued again.
"""

import logging
from typing import Any

import psycopg
from django.conf import settings
from django.db import connections
from django_q.models import Schedule
from django_q.tasks import async_task

from outbox import slots, worker
from outbox.worker import stopping

logger = logging.getLogger("outbox.worker")

SCHEDULES: dict[str, dict[str, Any]] = {
    "outbox: ensure drains": {
        "func": "outbox.tasks.ensure_drains",
        "schedule_type": Schedule.MINUTES,
        "minutes": 1,
    },
    "accounts: sweep": {"func": "accounts.housekeeping.sweep", "schedule_type": Schedule.HOURLY},
}
SLACK_SECONDS = 5


def drain(slot: int, seconds: float | None = None) -> str:
    """Deliver through this slot for some minutes; the successor is enqueued when the slot is free again."""
    stopping.busy(True)
    try:
        return worker.drain(
            slot=slot, seconds=seconds or settings.DRAIN_SECONDS, hand_over=lambda: _succeed(slot)
        ).value
    except psycopg.Error as error:
        logger.warning("Drain %d could not begin: %s", slot, type(error).__name__)
        return "there was no database"
    finally:
        stopping.busy(False)


def ensure_drains() -> list[int]:
    """Enqueue a drain for each slot that nobody holds; answers which."""
    missing = slots.free(settings.DRAIN_SLOTS)
    for slot in missing:
        enqueue_drain(slot)
    return missing


def enqueue_drain(slot: int, seconds: float | None = None) -> None:
    limit = int(seconds or settings.DRAIN_SECONDS) + settings.SHUTDOWN_GRACE_SECONDS + SLACK_SECONDS
    async_task(  # type: ignore[no-untyped-call]  # django_q is untyped
        "outbox.tasks.drain",
        slot,
        seconds,
        q_options={"task_name": f"drain-{slot}", "timeout": limit, "ack_failure": True},
    )


def first_run_seconds(slot: int) -> float:
    """Shorter for the first slots, so that they never all end together."""
    return float(settings.DRAIN_SECONDS * (slot + 1) / settings.DRAIN_SLOTS)


def ensure_schedules() -> None:
    """Exactly one row of each, whoever truncated or doubled it."""
    for name, task in SCHEDULES.items():
        kept = Schedule.objects.filter(name=name).order_by("pk").first()
        if kept is None:
            Schedule.objects.create(name=name, **task)
        else:
            # Two commands that start at once may both have made one; both keep the older.
            Schedule.objects.filter(name=name, pk__gt=kept.pk).delete()


def _succeed(slot: int) -> None:
    """In a thread of the drain, which has no connection to keep."""
    try:
        enqueue_drain(slot)
    finally:
        connections.close_all()
