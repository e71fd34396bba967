"""What does an operator run? Two web processes behind a balancer and a worker, restarted in turn."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import httpx

from tests.api import servers
from tests.databases import Database
from tests.faults import client, deployment
from tests.faults.receiver import Control
from tests.journeys.balancer import Balancer
from tests.journeys.clusters import run
from tests.outbox.workers import BASE, QUICK

WORKER = 0  # where a port stands for a web process
PASSWORD = "correct horse battery staple"
QUICKLY = QUICK | {
    "DJANGO_SETTINGS_MODULE": "tests.journeys.settings",
    "THROTTLE_USER": "off",
    "RATE_LIMIT_MAX": "10000",
}


class Gateway:
    """A context: all of it runs inside. What it was told by `environment` counts from the next restart."""

    def __init__(self, database: Database, folder: Path, receiver: Control) -> None:
        self.database = database
        self.receiver = receiver
        self.environment = database.environment | QUICKLY
        self.ledgers: list[Path] = []
        self._folder = folder
        self._ports = [servers.free_port(), servers.free_port()]
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.callback(self._end_all)
            for which in (*self._ports, WORKER):
                self._start(which)
            for port in self._ports:
                self._until_ready(port)
            self._until_drains()
            self.balancer = stack.enter_context(Balancer(self._ports))
            self.url = f"http://127.0.0.1:{self.balancer.port}"
            self.api = stack.enter_context(httpx.Client(base_url=f"{self.url}/api/v1", timeout=20))
            self._log_in()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # --- processes ---

    def restart_web(self) -> None:
        """One after the other, each only when the one before takes requests again."""
        for port in self._ports:
            self._end(port)
            self._start(port)
            self._until_ready(port)

    def restart_worker(self) -> None:
        self._end(WORKER)
        self._start(WORKER)
        self._until_drains()

    def manage(self, *arguments: str) -> str:
        return run([sys.executable, "manage.py", *arguments], self.environment)

    def _end_of_log(self) -> str:
        """Of each process; what the API was asked is left out."""
        lines = [
            line
            for file in sorted(self._folder.glob("*.log"))
            for line in file.read_text().splitlines()
            if '"api.requests"' not in line
        ]
        return "\n".join(lines[-40:])

    def _start(self, which: int) -> None:
        command = ["web", "--port", str(which)] if which else ["worker"]
        with (self._folder / f"{which}.log").open("ab") as log:
            self._processes[which] = subprocess.Popen(
                [sys.executable, "manage.py", *command], cwd=BASE, env=self.environment,
                stdout=log, stderr=log,
            )  # fmt: skip

    def _end(self, which: int) -> None:
        process = self._processes.pop(which)
        process.terminate()
        assert process.wait(30) == 0, self._end_of_log()

    def _end_all(self) -> None:
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _until_ready(self, port: int) -> None:
        def is_ready() -> bool:
            with contextlib.suppress(httpx.TransportError):
                return httpx.get(f"http://127.0.0.1:{port}/health/ready").is_success
            return False

        deployment.wait_for(is_ready, "web to be ready", within=60, detail=self._end_of_log)

    def _until_drains(self) -> None:
        pulses = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'data-pusher pulse %'"
        here = " AND datname = current_database()"
        sql = self.database.connect()

        def drains() -> bool:
            return sql.execute(pulses + here).fetchone() == (1,)

        deployment.wait_for(drains, "a drain", within=60, detail=self._end_of_log)

    # --- its users ---

    def _log_in(self) -> None:
        self.person = {"email": "alice@shop.example.org", "password": PASSWORD}
        self.api.post("/auth/register/", json=self.person).raise_for_status()
        answer = self.api.post("/auth/login/", json=self.person).raise_for_status()
        self.api.headers["Authorization"] = f"Bearer {answer.json()['data']['token']}"

    def call(self, method: str, path: str, **fields: Any) -> dict[str, Any]:
        answer = self.api.request(method, path, json=fields or None).raise_for_status()
        return answer.json()["data"]

    def account(self, name: str) -> deployment.Account:
        """With one destination, whose signatures the receiver checks."""
        made = self.call("POST", "/accounts/", name=name)
        self.call("PATCH", f"/accounts/{made['id']}/", rate_limit_per_second=1000)
        account = deployment.Account(made["id"], made["app_secret_token"])
        to = {
            "url": f"{self.receiver.url}/{name}",
            "http_method": "POST",
            "headers": {"Authorization": "Bearer s3cret"},
            "timeout_seconds": 1,
            "retry_schedule_seconds": [1] * 5,
        }
        added = self.call("POST", f"/accounts/{made['id']}/destinations/", **to)
        account.destinations.append(
            deployment.Destination(added["id"], f"/{name}", [added["signing_secret"]])
        )
        self.receiver.know(to["url"], added["signing_secret"])
        return account

    def traffic(self, account: deployment.Account, name: str, *, rate: float = 80) -> client.Load:
        """Events until it is told to stop; who gets no answer for 5 s gives up."""
        posts = (client.Post(f"{name}-{number}", b'{"n": %d}' % number) for number in range(20_000))
        self.ledgers.append(self._folder / f"{name}.jsonl")
        load = client.Load(
            self.url, account=account.id, token=account.token, posts=posts, ledger=self.ledgers[-1],
            rate=rate, connections=8, patience=5,
        )  # fmt: skip
        return load.start()

    def until_delivered(self) -> None:
        sql = self.database.connect()

        def unfinished() -> tuple[int, ...]:
            return sql.execute(deployment.UNFINISHED).fetchone()

        def left() -> str:
            return f"deliveries, events, blocks: {unfinished()}; {self._end_of_log()}"

        deployment.wait_for(lambda: not any(unfinished()), "an end of all work", within=60, detail=left)

    def check_invariants(self) -> None:
        books = ["--ledger", *self.ledgers, "--sightings", self.receiver.sightings_file]
        self.manage("check_invariants", "--healthy", *map(str, books))

    def sightings(self, account: deployment.Account) -> list[dict[str, Any]]:
        lines = map(json.loads, self.receiver.sightings_file.read_text().splitlines())
        return [line for line in lines if line["destination"] == account.destinations[0].path]
