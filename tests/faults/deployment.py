"""What is it that is being tried? The real thing: `manage.py up` on an embedded PostgreSQL of its own.

Web (with several receiver processes) and workers are started again by whoever does so in production: the
supervisor, granian, Django-Q2, PostgreSQL's keeper. Nothing here helps them.
"""

import base64
import contextlib
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import httpx
import psutil
import psycopg

from config import embedded, keeper
from config.supervisor import LEASH
from tests.faults import crashpoints
from tests.faults.proxy import Proxy

BASE = Path(__file__).resolve().parents[2]
READY_SECONDS = 90.0
OTHERS = ("DATABASE_URL", "MIGRATION_DATABASE_URL", "DATABASE_POOL", "REDIS_URL", "TESTS_DATA_DIR",
          "LOG_FORMAT", "SECRET_KEY", "ENCRYPTION_KEYS", "HOST", "PUBLIC_URL", "FORCE_COLOR", "SENTRY_DSN",
          "METRICS_TOKEN", "EMAIL_HOST", "TRUSTED_PROXIES", "BEHIND_TLS")  # fmt: skip
SETTINGS = {
    "DJANGO_SETTINGS_MODULE": "tests.faults.settings",
    "DEMO": "0",
    "WEB_WORKERS": "2",
    "DRAIN_SLOTS": "2",
    "LEASE_SECONDS": "4",
    "LEASE_MARGIN_SECONDS": "1",
    "SHUTDOWN_GRACE_SECONDS": "10",
    "RATE_LIMIT_MAX": "100000",
    "THROTTLE_USER": "off",
    "THROTTLE_ANONYMOUS": "off",
    "DESTINATION_ALLOW": "127.0.0.0/8",
    "CIRCUIT_LAST_PROBE_SECONDS": "5",
}
LEASHED = (sys.executable, "-S", "-E", "-c", LEASH)  # whoever kills us ends it as well
LEASE_SECONDS = float(SETTINGS["LEASE_SECONDS"])
DRAIN_WITHIN_SECONDS = max(60.0, 3 * LEASE_SECONDS)  # I10
PASSWORD = "correct horse battery staple"

# What is not yet in the state in which it stays: deliveries under way, events in no block, blocks in no log.
UNFINISHED = """
    SELECT (SELECT count(*) FROM outbox),
           (SELECT count(*) FROM event) - (SELECT count(*) FROM event_position),
           (SELECT coalesce(max(number), 0) FROM block)
             - (SELECT min(c.block) FROM projection p
                  JOIN projection_checkpoint c ON c.name = p.name AND c.version = p.active)
"""


@dataclass
class Destination:
    id: str
    path: str
    secrets: list[str]


@dataclass
class Account:
    id: str
    token: str
    destinations: list[Destination] = field(default_factory=list)


class Deployment:
    """A context: started and ready inside, ended without a trace (but its folder) after it."""

    def __init__(self, folder: Path, *, proxied: bool = False, **environment: str) -> None:
        self.folder = folder
        self.data_dir = folder / "data"
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.major = int(os.environ.get("EMBEDDED_POSTGRES") or 18)
        self.points = crashpoints.Arm(folder / "points")
        self._proxied = proxied
        self._environment = environment
        self._stack = contextlib.ExitStack()
        self.prepare: Callable[[Deployment], None] = lambda _: None  # before anything is started
        self.faults: list[tuple[float, float]] = []  # when something was wrong, in Unix seconds

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            (self.folder / "points").mkdir(parents=True)
            self.server = embedded.attach(self.data_dir, major=self.major)
            stack.callback(self._release)
            self.proxy = stack.enter_context(self._new_proxy()) if self._proxied else None
            self.environment = self._make_environment()
            self.prepare(self)
            stack.enter_context(self._running())
            self.until_ready()
            self.api = stack.enter_context(httpx.Client(base_url=f"{self.url}/api/v1", timeout=15))
            self.log_in()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _release(self) -> None:
        embedded.release(self.data_dir, major=self.major)

    def _new_proxy(self) -> Proxy:
        return Proxy(f"{self.server.host}/.s.PGSQL.{self.server.port}")

    def _make_environment(self) -> dict[str, str]:
        given = {name: value for name, value in os.environ.items() if name not in OTHERS}
        own = {"DATA_DIR": str(self.data_dir), "PORT": str(self.port)}
        own[crashpoints.FOLDER] = str(self.folder / "points")
        if self.proxy is not None:
            own |= {
                "DATABASE_URL": self._url(keeper.APPLICATION),
                "MIGRATION_DATABASE_URL": self._url(keeper.OWNER),
                "SECRET_KEY": secrets.token_urlsafe(48),
                "ENCRYPTION_KEYS": "k1:" + base64.b64encode(secrets.token_bytes(32)).decode(),
            }
        return given | SETTINGS | own | self._environment

    def _url(self, role: str) -> str:
        password = quote(self.server.passwords[role], safe="")
        return f"postgresql://{role}:{password}@127.0.0.1:{self.proxy.port}/{keeper.DATABASE}"

    # --- the command ---

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        self.start()
        try:
            yield
        finally:
            self.stop()

    def start(self) -> None:
        with (self.folder / "up.log").open("ab") as log:
            self.up = subprocess.Popen(
                [*LEASHED, str(os.getpid()), sys.executable, "manage.py", "up"],
                cwd=BASE,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def stop(self) -> None:
        """As Ctrl-C does; what does not end is killed, so that no test leaves anybody behind."""
        self.up.terminate()
        try:
            self.up.wait(30)
        except subprocess.TimeoutExpired:
            tree = psutil.Process(self.up.pid).children(recursive=True)
            for process in [*tree, self.up]:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            self.up.wait(10)

    def until_ready(self, within: float = READY_SECONDS) -> None:
        wait_for(self.is_ready, "the deployment to be ready", within=within, log=self.log)

    def is_ready(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/health/ready", timeout=5).status_code == 200
        return False

    @property
    def log(self) -> str:
        return (self.folder / "up.log").read_text(errors="replace")

    def manage(
        self, *arguments: str, timeout: float = 120, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=BASE,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0 or not check, f"{arguments}: {done.stdout}{done.stderr}"
        return done

    # --- the processes ---

    def child(self, name: str) -> psutil.Process | None:
        """web (granian's parent) or worker (the command around Q2), if it lives just now."""
        sign = "granian" if name == "web" else "manage.py worker"
        with contextlib.suppress(psutil.Error):
            for process in psutil.Process(self.up.pid).children():
                if sign in " ".join(process.cmdline()):
                    return process
        return None

    def receivers(self) -> list[psutil.Process]:
        web = self.child("web")
        with contextlib.suppress(psutil.Error):
            return web.children() if web else []
        return []

    def drains(self) -> list[psutil.Process]:
        """The processes that deliver: those whose pulse the database hears, or that Q2 keeps for it."""
        worker = self.child("worker")
        with contextlib.suppress(psutil.Error, psycopg.Error):
            pids = {pid for (pid,) in self.ask(
                "SELECT DISTINCT split_part(application_name, ' ', 3)::int FROM pg_stat_activity"
                " WHERE application_name LIKE 'data-pusher pulse %'")}  # fmt: skip
            return [one for one in worker.children(recursive=True) if one.pid in pids] if worker else []
        return []

    def postmaster(self) -> psutil.Process | None:
        with contextlib.suppress(OSError, ValueError, psutil.Error):
            file = self.data_dir / "postgres" / str(self.major) / "data" / "postmaster.pid"
            process = psutil.Process(int(file.read_text().splitlines()[0]))
            return process if process.name() == "postgres" else None
        return None

    def kill_cluster(self) -> int:
        """kill -9 of the whole group of the worker command: command, sentinel, workers, monitor, pusher."""
        worker = wait_for(lambda: self.child("worker"), "a worker command")
        os.killpg(worker.pid, signal.SIGKILL)
        return worker.pid

    # --- the database ---

    @contextlib.contextmanager
    def sql(self, role: str = keeper.OWNER) -> Iterator[psycopg.Connection[Any]]:
        """Directly, not through the proxy."""
        with psycopg.connect(**self.server.login(role), dbname=keeper.DATABASE, autocommit=True) as made:
            yield made

    def ask(self, statement: str, *parameters: Any, role: str = keeper.OWNER) -> list[tuple[Any, ...]]:
        with self.sql(role) as connection:
            return connection.execute(statement, parameters or None).fetchall()

    def do(self, statement: str, *, role: str = keeper.OWNER) -> None:
        with self.sql(role) as connection:
            connection.execute(statement)

    def unfinished(self) -> tuple[int, int, int]:
        """Deliveries that wait or are under way, events in no block, blocks that the logs have not got."""
        return self.ask(UNFINISHED)[0]

    def until_drained(self, within: float = DRAIN_WITHIN_SECONDS) -> float:
        """Seconds until nothing is left to do, with nobody's help. AssertionError: it was not so in time."""
        began = time.monotonic()

        def drained() -> bool:
            with contextlib.suppress(psycopg.OperationalError):
                return not any(self.unfinished())
            return False

        wait_for(drained, "the outbox to drain", within=within, pause=0.1, detail=self._left)
        return time.monotonic() - began

    def _left(self) -> str:
        rows = self.ask("SELECT to_jsonb(o) FROM outbox o ORDER BY due_at LIMIT 5")
        return f"left (deliveries, unsealed, unprojected): {self.unfinished()}; {rows}"

    # --- the API ---

    def log_in(self) -> None:
        person = {"email": f"alice-{secrets.token_hex(4)}@shop.example.org", "password": PASSWORD}
        self.api.post("/auth/register/", json=person).raise_for_status()
        answer = self.api.post("/auth/login/", json=person).raise_for_status()
        self.api.headers["Authorization"] = f"Bearer {answer.json()['data']['token']}"

    def account(self, name: str, *, limit: int = 100_000) -> Account:
        made = self.call("POST", "/accounts/", name=name)
        self.call("PATCH", f"/accounts/{made['id']}/", rate_limit_per_second=limit)
        return Account(made["id"], made["app_secret_token"])

    def destination(
        self, account: Account, url: str, path: str, *, method: str = "POST", **more: Any
    ) -> Destination:
        fields = {"url": url + path, "http_method": method, "headers": {"X-From": "faults"}}
        fields |= {"timeout_seconds": 1, "retry_schedule_seconds": [1] * 20} | more
        made = self.call("POST", f"/accounts/{account.id}/destinations/", **fields)
        account.destinations.append(Destination(made["id"], path, [made["signing_secret"]]))
        return account.destinations[-1]

    def call(self, method: str, path: str, **fields: Any) -> dict[str, Any]:
        """As an ordinary client: 503, and a connection that is gone, are worth another try."""
        answer = wait_for(lambda: self._answer(method, path, fields), f"{method} {path}", pause=0.5)
        assert answer.is_success, (method, path, answer.status_code, answer.text)
        return answer.json()["data"] if answer.content else {}

    def _answer(self, method: str, path: str, fields: dict[str, Any]) -> httpx.Response | None:
        with contextlib.suppress(httpx.TransportError):
            answer = self.api.request(method, path, json=fields or None)
            return None if answer.status_code == 503 else answer
        return None


def wait_for[T](
    ask: Callable[[], T],
    what: str,
    *,
    within: float = 30,
    pause: float = 0.05,
    log: str = "",
    detail: Callable[[], str] = str,
) -> T:
    """The first true answer; AssertionError after `within` seconds."""
    deadline = time.monotonic() + within
    while not (answer := ask()):
        assert time.monotonic() < deadline, (
            f"waited {within:g} s in vain for {what}; {detail()} {log[-3000:]}"
        )
        time.sleep(pause)
    return answer


def pick(
    rng: random.Random, ask: Callable[[], list[psutil.Process]], *, within: float = 60
) -> psutil.Process:
    """One of them, once there is one."""
    return rng.choice(wait_for(ask, "a process to pick", within=within))


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]
