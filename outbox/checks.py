"""Do the settings agree with each other? What contradicts is refused before anything starts.

    deadline + margin < lease < Q2's timeout < Q2's retry

A lease that ends before its send would make two sends of one attempt; a task that Q2 ends, or starts again
while it runs, would leave its sends to lapse.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register  # noqa: A004 - Django's own name
from django.core.management.base import CommandError
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

SPARE_WORKERS = 2  # for the watchdog, and for a drain's successor while its last sends land
GUARD_CYCLES = (0.25, 0.5, 1)  # Q2 counts down a float to exactly 0
TASK_SLACK_SECONDS = 5

type Finding = tuple[bool, CheckMessage]


@register()
def settings_agree(app_configs: object = None, **_: Any) -> list[CheckMessage]:  # noqa: ARG001 - Django's signature
    findings = (*_leases(), *_tasks(), *_rooms())
    return [message for is_wrong, message in findings if is_wrong]


def refuse_unmigrated() -> None:
    """Raises CommandError, or the backend's refusal of an unfit server."""
    executor = MigrationExecutor(connection)
    if executor.migration_plan(executor.loader.graph.leaf_nodes()):
        raise CommandError("The database is not up to date: run `manage.py migrate` first")


def _leases() -> Iterator[Finding]:
    s = settings
    q: dict[str, Any] = settings.Q_CLUSTER
    patience = s.SHUTDOWN_GRACE_SECONDS - TASK_SLACK_SECONDS - s.DELIVERY_TIMEOUT_MAX
    yield (
        s.DELIVERY_TIMEOUT_MAX + s.LEASE_MARGIN_SECONDS >= s.LEASE_SECONDS,
        _error(
            1,
            f"LEASE_SECONDS ({s.LEASE_SECONDS}) must be over DELIVERY_TIMEOUT_MAX + LEASE_MARGIN_SECONDS "
            f"({s.DELIVERY_TIMEOUT_MAX} + {s.LEASE_MARGIN_SECONDS}): a lease must outlive its send",
        ),
    )
    yield (
        s.DELIVERY_TIMEOUT > s.DELIVERY_TIMEOUT_MAX,
        _error(
            2,
            f"DELIVERY_TIMEOUT ({s.DELIVERY_TIMEOUT}) must not be over {s.DELIVERY_TIMEOUT_MAX}",
        ),
    )
    yield (
        q["timeout"] <= s.LEASE_SECONDS,
        _error(3, f"Q_TIMEOUT ({q['timeout']}) must be over LEASE_SECONDS ({s.LEASE_SECONDS})"),
    )
    yield (
        patience < 0,
        Warning(
            f"SHUTDOWN_GRACE_SECONDS ({s.SHUTDOWN_GRACE_SECONDS}) is too short for a send of "
            f"DELIVERY_TIMEOUT_MAX ({s.DELIVERY_TIMEOUT_MAX}) seconds to end: a stop may interrupt attempts",
            id="outbox.W001",
        ),
    )


def _tasks() -> Iterator[Finding]:
    s = settings
    q: dict[str, Any] = settings.Q_CLUSTER
    longest = s.DRAIN_SECONDS + s.SHUTDOWN_GRACE_SECONDS + TASK_SLACK_SECONDS
    yield (
        longest > q["timeout"],
        _error(
            4,
            f"Q_TIMEOUT ({q['timeout']}) must be at least DRAIN_SECONDS + SHUTDOWN_GRACE_SECONDS + "
            f"{TASK_SLACK_SECONDS} ({longest}): a drain must end before Django-Q2 ends it",
        ),
    )
    yield (
        q["timeout"] >= q["retry"],
        _error(
            5, f"Q_RETRY ({q['retry']}) must be over Q_TIMEOUT ({q['timeout']}), or tasks run twice at once"
        ),
    )
    yield (
        q["workers"] < s.DRAIN_SLOTS + SPARE_WORKERS,
        _error(
            6,
            f"Q_CLUSTER's workers ({q['workers']}) must be {SPARE_WORKERS} more than DRAIN_SLOTS "
            f"({s.DRAIN_SLOTS}) at least",
        ),
    )
    yield (
        q.get("guard_cycle") not in GUARD_CYCLES,
        _error(7, f"Q_CLUSTER's guard_cycle must be one of {GUARD_CYCLES}: others never see a timeout"),
    )
    yield (
        not q.get("ack_failures") or not q.get("max_attempts"),
        _error(8, "Q_CLUSTER needs ack_failures and max_attempts, or a failing task is repeated for ever"),
    )


def _rooms() -> Iterator[Finding]:
    s = settings
    yield (
        s.DRAIN_BYTES < s.MAX_EVENT_BYTES,
        _error(
            9, f"DRAIN_BYTES ({s.DRAIN_BYTES}) must hold one event of MAX_EVENT_BYTES ({s.MAX_EVENT_BYTES})"
        ),
    )
    yield (
        s.CIRCUIT_FIRST_PROBE_SECONDS > s.CIRCUIT_LAST_PROBE_SECONDS,
        _error(10, "CIRCUIT_FIRST_PROBE_SECONDS must not be over CIRCUIT_LAST_PROBE_SECONDS"),
    )
    yield (
        not _is_schedule(s.RETRY_SCHEDULE) or not 0 <= s.RETRY_JITTER < 1,
        _error(11, "RETRY_SCHEDULE must be seconds from 1 on, and RETRY_JITTER from 0 to below 1"),
    )


def _is_schedule(seconds: Iterable[Any]) -> bool:
    return all(isinstance(wait, int) and wait >= 1 for wait in seconds)


def _error(number: int, message: str) -> Error:
    return Error(message, id=f"outbox.E{number:03}")
