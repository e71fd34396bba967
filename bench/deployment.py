"""How does the product stand when it is measured? As `make up` starts it, in a folder of its own, no demo.

A fresh DATA_DIR with its embedded PostgreSQL (held by this process while it lives), `manage.py web` and
`manage.py worker`. Only what is named in SETTINGS differs from the product's defaults, and nothing of the
caller's environment gets in but where programs and files are.
"""

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx
import psutil
import psycopg

from bench.run import Run, Wrong
from config import embedded, keeper
from config.supervisor import LEASH

ROOT = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
HIGHEST_LIMIT = 1_000_000
SETTINGS = {
    "RATE_LIMIT_MAX": str(HIGHEST_LIMIT),
    "THROTTLE_USER": "off",
    "THROTTLE_ANONYMOUS": "off",
    "DESTINATION_ALLOW": "127.0.0.0/8",
}
AS_UP_SETS_THEM = {"LOG_LEVEL": "WARNING", "LOG_FORMAT": "line", "PYTHONUNBUFFERED": "1"}
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR")
START_SECONDS = 60.0
STOP_SECONDS = 60.0  # the product's own grace is 40
COMMAND_SECONDS = 600.0
LOOK_SECONDS = 0.05
DRAINED_LOOK_SECONDS = 0.2
TAIL_LINES = 30

# What a claim could take now, what a worker has in hand, and what `tend` will bring back. A destination that
# rests or is paused keeps its rows, and a retry waits for its time: neither is work that is left over.
WAITING = """
SELECT EXISTS (SELECT FROM outbox WHERE NOT held AND due_at <= clock_timestamp())
    OR EXISTS (SELECT FROM outbox
                WHERE NOT held AND fence <> 0 AND due_at <= clock_timestamp() + interval '1 minute')
    OR EXISTS (SELECT FROM pusher.route r LEFT JOIN lane l USING (destination_id)
                WHERE NOT r.paused AND l.resting IS NOT TRUE
                  AND EXISTS (SELECT FROM outbox o WHERE o.destination_id = r.destination_id AND o.held))
"""


@dataclass(frozen=True, slots=True)
class Account:
    """Where events go: `token` is what they are sent with, `destinations` are ids in the order asked for."""

    id: str
    token: str
    destinations: tuple[str, ...]


@dataclass
class Child:
    """A process that must not end by itself. `workers` are the children that it was ready with."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    workers: list[psutil.Process] = field(default_factory=list)

    def check(self) -> None:
        """Raises Wrong when it, or one that it was ready with, has ended."""
        if self.process.poll() is not None:
            raise Wrong(f"{self.name} ended with status {self.process.returncode}:\n{tail(self.log)}")
        if gone := [one.pid for one in self.workers if not one.is_running()]:
            raise Wrong(f"{self.name} lost its process {gone[0]}:\n{tail(self.log)}")


class Deployment:
    """A context: the database is there and migrated from its beginning on, `start_web` and `start_worker` do
    the rest, and at its end nothing is left, neither processes nor files.
    """

    def __init__(self, run: Run, *, slots: int = 2, environment: Mapping[str, str] | None = None) -> None:
        self._run = run
        self._children: dict[str, Child] = {}
        self._closing = contextlib.ExitStack()
        self._bearer = ""
        self.slots = slots
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}"
        number = 1
        while (folder := run.folder / f"deployment-{number}").exists():
            number += 1
        self.folder = folder
        self.data_dir = folder / "data"
        self.environment = {
            **{name: os.environ[name] for name in INHERITED if name in os.environ},
            **AS_UP_SETS_THEM,
            **SETTINGS,
            "DATA_DIR": str(self.data_dir),
            "HOST": HOST,
            "PORT": str(self.port),
            "DRAIN_SLOTS": str(slots),
            **(environment or {}),
        }

    def __enter__(self) -> Self:
        self.data_dir.mkdir(parents=True)
        try:
            self._closing.callback(self._remove)
            self._server = embedded.attach(self.data_dir)
            self.manage("migrate", "--verbosity", "0", "--no-input")
            with self.sql() as connection:
                self._run.versions["PostgreSQL"] = _one(connection, "SHOW server_version")
            self._run.checks.append(self.check)
            self._closing.callback(self._run.checks.remove, self.check)
        except BaseException:
            self._closing.close()
            raise
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        with self._closing:
            self._closing.callback(self._end)
            if kind is None:
                self.check()
            self._tell_warnings()

    # --- the processes --------------------------------------------------------------------------------------

    def start_web(self) -> None:
        """Returns when it is ready for events."""
        web = self._start("web", "web")
        self._wait(web, lambda: _answers(self.port), "web isn't ready")
        web.workers = psutil.Process(web.process.pid).children()

    def stop_web(self) -> None:
        self._stop("web")

    def start_worker(self, *, slots: int | None = None) -> None:
        """Returns when each of its slots (drains) is at work."""
        slots = slots or self.slots
        worker = self._start("worker", "worker", "--slots", str(slots))
        with self.sql() as connection:
            held = "SELECT count(*) >= %s FROM slot WHERE lease_until > clock_timestamp()"
            self._wait(worker, lambda: _one(connection, held, [slots]), "the worker's slots stay empty")

    def stop_worker(self) -> None:
        """By SIGTERM, which ends it well: it settles what it has in hand."""
        self._stop("worker")

    def check(self) -> None:
        """Raises Wrong when a process ended that should be there."""
        for child in self._children.values():
            child.check()

    def kinds(self) -> dict[str, list[psutil.Process]]:
        """The roots of all processes, by what they are."""
        processes = {name: [psutil.Process(child.process.pid)] for name, child in self._children.items()}
        home = keeper.Place(self.data_dir / "postgres" / "18").home
        postmaster = int((home / "data" / "postmaster.pid").read_text().split()[0])
        return {**processes, "postgres": [psutil.Process(postmaster)]}

    def manage(self, *arguments: str, timeout: float = COMMAND_SECONDS) -> str:
        """Run one of the product's commands to its end; what it printed. Raises Wrong when it fails."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )
        if done.returncode:
            raise Wrong(f"manage.py {arguments[0]} ended with status {done.returncode}:\n{done.stdout}")
        return done.stdout

    def _start(self, name: str, *arguments: str) -> Child:
        if name in self._children:
            raise ValueError(f"{name} runs already")
        log = self.folder / f"{name}.log"
        # A benchmark that is killed takes its processes along.
        leash = (sys.executable, "-S", "-E", "-c", LEASH, str(os.getpid()))
        with log.open("ab") as output:
            process = subprocess.Popen(
                [*leash, sys.executable, "manage.py", *arguments],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                process_group=0,  # a Ctrl-C is for us, who end the others in order
            )
        self._children[name] = Child(name, process, log)
        return self._children[name]

    def _wait(self, child: Child, holds: Callable[[], bool], complaint: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not holds():
            child.check()
            if time.monotonic() > deadline:
                raise Wrong(f"{complaint}:\n{tail(child.log)}")
            time.sleep(LOOK_SECONDS)

    def _stop(self, name: str) -> None:
        self.check()
        child = self._children.pop(name)
        if _end(child.process):
            raise Wrong(f"{name} didn't end well ({child.process.returncode}):\n{tail(child.log)}")

    def _end(self) -> None:
        """At once: their files go anyway."""
        while self._children:
            _kill(self._children.popitem()[1].process)

    def _tell_warnings(self) -> None:
        for log in sorted(self.folder.glob("*.log")):
            if lines := tail(log):
                self._run.say(f"{log.stem} said:\n{lines}")

    def _remove(self) -> None:
        home = keeper.Place(self.data_dir / "postgres" / "18").home
        gone = embedded.release(self.data_dir)
        shutil.rmtree(home, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        if not gone:
            raise Wrong(f"PostgreSQL in {home} goes on: another program uses it")

    # --- what is asked of it --------------------------------------------------------------------------------

    def account(self, *, destinations: Sequence[str | Mapping[str, Any]]) -> Account:
        """A new one without a limit to speak of. Destinations are URLs, or fields of the API."""
        with self.api() as api:
            made = _written(
                api.post("/accounts/", json={"name": "Benchmark", "rate_limit_per_second": HIGHEST_LIMIT})
            )
            ids = [
                _written(api.post(f"/accounts/{made['id']}/destinations/", json=_fields(one)))["id"]
                for one in destinations
            ]
        return Account(id=made["id"], token=made["app_secret_token"], destinations=tuple(ids))

    def api(self) -> httpx.Client:
        """The management API, logged in as the owner of all accounts; paths are those below /api/v1."""
        base = f"{self.url}/api/v1"
        if not self._bearer:
            person = {"email": "bench@example.com", "password": "correct horse battery staple"}
            _written(httpx.post(f"{base}/auth/register/", json=person))
            self._bearer = _written(httpx.post(f"{base}/auth/login/", json=person))["token"]
        return httpx.Client(base_url=base, timeout=60, headers={"Authorization": f"Bearer {self._bearer}"})

    def sql(self, *, role: str = keeper.OWNER) -> psycopg.Connection[Any]:
        """In autocommit; as the owner of the tables, or as keeper.SUPERUSER."""
        login = self._server.login(role)
        connection = psycopg.connect(**login, dbname=keeper.DATABASE, autocommit=True)
        self._closing.callback(connection.close)
        return connection

    def wait_drained(self, *, timeout: float) -> None:
        """Until nothing is left that could be sent now. Raises Wrong when that takes longer."""
        deadline = time.monotonic() + timeout
        with self.sql() as connection:
            while _one(connection, WAITING):
                self.check()
                if time.monotonic() > deadline:
                    left = _one(connection, "SELECT count(*) FROM outbox")
                    raise Wrong(f"{left} deliveries are still in the outbox after {timeout:g} s")
                time.sleep(DRAINED_LOOK_SECONDS)


def free_port() -> int:
    with socket.create_server((HOST, 0)) as probe:
        return int(probe.getsockname()[1])


def tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-TAIL_LINES:])


def _end(process: subprocess.Popen[bytes]) -> int:
    """Its status, and nobody of its group is left."""
    process.terminate()
    try:
        return process.wait(STOP_SECONDS)
    finally:
        _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _one(connection: psycopg.Connection[Any], query: str, values: Sequence[Any] = ()) -> Any:
    row = connection.execute(query.encode(), values).fetchone()
    return row[0] if row else None


def _fields(destination: str | Mapping[str, Any]) -> dict[str, Any]:
    given = {"url": destination} if isinstance(destination, str) else destination
    return {"http_method": "POST", "headers": {}, **given}


def _written(response: httpx.Response) -> Any:
    if response.is_error:
        raise Wrong(
            f"{response.request.method} {response.request.url}: {response.status_code} {response.text}"
        )
    return response.json()["data"]
