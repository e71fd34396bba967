"""A real `manage.py worker` on a database of its own, and accounts whose events it delivers."""

import asyncio
import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from uuid import UUID

from django.test import override_settings

from accounts import operations, tokens
from outbox import intake
from tests.databases import Database

BASE = Path(__file__).resolve().parent.parent.parent
_numbers = itertools.count(1)

# A lease ends 4 s after its claim; a send begins only while 1 + 1 s of it are left.
QUICK = {
    "DJANGO_SETTINGS_MODULE": "tests.outbox.quick",
    "DESTINATION_ALLOW": "127.0.0.0/8",
    "LEASE_SECONDS": "4",
    "LEASE_MARGIN_SECONDS": "1",
    "SHUTDOWN_GRACE_SECONDS": "10",
    "DRAIN_SLOTS": "1",
}


@dataclass
class Alice:
    """Somebody with an account; destinations are made as she goes."""

    limit: int = 1000
    user: Any = field(init=False)
    account_id: UUID = field(init=False)
    token: tokens.PresentedToken = field(init=False)

    def __post_init__(self) -> None:
        self.user = operations.register_user(
            email=f"alice{next(_numbers)}@shop.example.org", password="correct horse battery staple"
        )
        made = operations.create_account(actor=self.user, name="Shop", rate_limit_per_second=self.limit)
        self.account_id = made.account.pk
        presented = tokens.parse(made.app_secret_token)
        assert presented is not None
        self.token = presented

    def sends_to(
        self, url: str, *, method: str = "POST", timeout: int = 1, schedule: Sequence[int] = (1, 1, 1)
    ) -> UUID:
        with override_settings(DESTINATION_ALLOW=["127.0.0.0/8"]):
            made = operations.create_destination(
                actor=self.user,
                account_id=self.account_id,
                url=url,
                http_method=method,
                headers={},
                timeout_seconds=timeout,
                retry_schedule_seconds=list(schedule),
            )
        return made.destination.pk

    def posts(self, *event_ids: str, body: bytes = b'{"n": 1}', pause: float | None = None) -> None:
        """Accepted and committed, as by the receiver: together, or one by one with a pause (seconds)."""

        async def post() -> None:
            door = intake.Intake()
            await door.start()
            try:
                if pause is None:
                    await asyncio.gather(*(accept(door, event_id) for event_id in event_ids))
                else:
                    for event_id in event_ids:
                        await accept(door, event_id)
                        await asyncio.sleep(pause)
            finally:
                await door.stop()

        async def accept(door: intake.Intake, event_id: str) -> None:
            verdict = await door.accept(intake.Submission(self.token, event_id, body))
            assert verdict.outcome is intake.Outcome.ACCEPTED, verdict

        asyncio.run(post())


class Worker:
    """`manage.py worker` in a process group of its own. Leaving the context kills whatever is left of it."""

    def __init__(self, database: Database, log: Path, **environment: str) -> None:
        self._log = log
        self._environment = {**database.environment, **QUICK, **environment}
        self.sql = database.connect()

    def __enter__(self) -> Self:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "worker"],
                cwd=BASE,
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
        eventually(lambda: not self.group(), "every process to be gone")

    # --- what is going on ---

    @property
    def log(self) -> str:
        return self._log.read_text()

    def group(self) -> list[int]:
        """Every living process of this worker's group."""
        return [pid for pid, group in _processes() if group == self.process.pid]

    def drains(self, count: int = 1) -> list[int]:
        """The processes that drain, once there are so many."""
        return eventually(lambda: _if(len(pids := self._drains()) == count, pids), f"{count} drains", self)

    def _drains(self) -> list[int]:
        rows = self.sql.execute(
            "SELECT split_part(application_name, ' ', 3)::int FROM pg_stat_activity"
            " WHERE application_name LIKE 'data-pusher pulse %' AND datname = current_database()"
        ).fetchall()
        return [pid for (pid,) in rows if pid in self.group()]

    def leased(self) -> int:
        return int(self.sql.execute("SELECT count(*) FROM outbox WHERE fence <> 0").fetchone()[0])

    def waiting(self) -> int:
        return int(self.sql.execute("SELECT count(*) FROM outbox").fetchone()[0])

    def events(self, *types: str) -> list[tuple[str, dict[str, Any]]]:
        """(type, data) of the deliveries' events, in the order they were made."""
        return list(
            self.sql.execute(
                "SELECT type, data FROM event"
                " WHERE type LIKE 'delivery.%%' AND (%s = '{}' OR type = ANY (%s)) ORDER BY seq",
                [[f"delivery.{one}" for one in types]] * 2,
            ).fetchall()
        )

    def delivers_all(self, within: float = 20) -> None:
        eventually(lambda: self.waiting() == 0, "an empty outbox", self, within=within)

    # --- what is done to it ---

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ends(self, within: float = 15) -> int:
        return self.process.wait(within)


def eventually[T](ask: Callable[[], T], what: str, worker: Worker | None = None, *, within: float = 20) -> T:
    """The first true answer; AssertionError after `within` seconds, with the worker's log."""
    deadline = time.monotonic() + within
    while not (answer := ask()):
        log = worker.log if worker else ""
        assert time.monotonic() < deadline, f"waited {within} s in vain for {what}\n{log[-3000:]}"
        time.sleep(0.02)
    return answer


def parent_of(pid: int) -> int:
    return int(subprocess.run(["ps", "-o", "ppid=", "-p", str(pid)], capture_output=True, check=True).stdout)


def _if[T](condition: bool, value: T) -> T | None:
    return value if condition else None


def _processes() -> Iterator[tuple[int, int]]:
    """(pid, process group) of all that live; zombies don't."""
    listing = subprocess.run(["ps", "-eo", "pid=,pgid=,stat="], capture_output=True, text=True, check=True)
    for line in listing.stdout.splitlines():
        pid, group, state = line.split()
        if not state.startswith("Z"):
            yield int(pid), int(group)
