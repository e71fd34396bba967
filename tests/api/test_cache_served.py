"""Does `manage.py web` read what is committed, in two processes, and across PostgreSQL's restarts?"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from config import embedded, keeper
from tests.api import servers
from tests.api.conftest import PASSWORD, add_destination, person
from tests.api.servers import BASE, Wire
from tests.api.test_web import Site, argv
from tests.config.test_embedded import eventually

pytestmark = pytest.mark.slow  # each starts `manage.py web` anew

WRITES = 400
UPDATE = "UPDATE accounts_destination SET url = 'https://hooks.example.com/' || %s"


@dataclass
class Committed:
    """The number that the writer wrote last, for sure."""

    number: int = 0
    ended: bool = False


class Reader:
    """Reads over and over; what it reads must not be older than what was committed before it asked."""

    def __init__(self, port: int, path: str, token: str, committed: Committed) -> None:
        self._port, self._committed = port, committed
        self._request = (f"GET {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {token}")
        self.answers = 0
        self.stale: list[tuple[int, int]] = []

    def run(self) -> None:
        while not self._committed.ended:
            with closing(Wire(self._port)) as wire:  # now and then a new one: to the other process
                for _ in range(20):
                    self._read(wire)

    def _read(self, wire: Wire) -> None:
        before = self._committed.number
        wire.say(*self._request)
        response = wire.hear()
        assert response is not None
        assert response.status == 200, response.body
        number = int(response.json["results"][0]["url"].rpartition("/")[2])
        self.answers += 1
        if number < before:
            self.stale.append((number, before))


def test_400_writes_and_hot_readers_in_two_processes(database):
    alice = person("alice")
    account = _account_of(alice)
    path = f"/api/v1/accounts/{account.pk}/destinations/"
    writer = database.connect()
    writer.execute(UPDATE, [0])
    port = servers.free_port()
    environment = {**database.environment, "WEB_WORKERS": "2", "THROTTLE_USER": "", "LOG_LEVEL": "ERROR"}
    committed = Committed()
    with servers.running(argv(port), port, environment=environment), ThreadPoolExecutor(3) as threads:
        readers = [Reader(port, path, alice.token, committed) for _ in range(3)]
        reading = [threads.submit(reader.run) for reader in readers]
        for number in range(1, WRITES + 1):
            writer.execute(UPDATE, [number])
            committed.number = number
            time.sleep(random.choice([0, 0.001, 0.03]))  # noqa: S311 (nothing secret)
        committed.ended = True
        for running in reading:
            running.result()
    assert [reader.stale for reader in readers] == [[], [], []]
    # Fewer queries than answers: it is the cache that was tested. (Its processes have ended and told.)
    answers = sum(reader.answers for reader in readers)
    eventually(lambda: 0 < _scans(writer) - WRITES < answers)


def _account_of(alice: Any) -> Any:
    from accounts import operations

    account = operations.create_account(actor=alice.user, name="Orders").account
    add_destination(alice, account)
    return account


def _scans(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute(
        "SELECT seq_scan + coalesce(idx_scan, 0) FROM pg_stat_user_tables"
        " WHERE relname = 'accounts_destination'"
    ).fetchone()
    assert row is not None
    return int(row[0])


class Own:
    """A PostgreSQL of this test's own, with our tables, and the web side on it."""

    def __init__(self, site: Site, place: keeper.Place, server: embedded.Server) -> None:
        self.site, self._place, self._server = site, place, server
        person = {"email": "alice@people.example.com", "password": PASSWORD}
        assert site.ask("POST", "/api/v1/auth/register/", person).status == 201
        token = site.ask("POST", "/api/v1/auth/login/", person).json["data"]["token"]
        self._bearer = f"Authorization: Bearer {token}"
        account = self._post("/api/v1/accounts/", {"name": "Orders"})
        self._path = f"/api/v1/accounts/{account['id']}/destinations/"
        self._post(self._path, {"url": "https://hooks.example.com/", "http_method": "POST", "headers": {}})

    def _post(self, path: str, content: Any) -> Any:
        response = self.site.ask("POST", path, content, self._bearer)
        assert response.status == 201, response.body
        return response.json["data"]

    def read(self) -> str | None:
        """None: no answer (yet)."""
        response = self.site.ask("GET", self._path, None, self._bearer)
        return response.json["results"][0]["url"] if response.status == 200 else None

    def write(self, what: str) -> str:
        with psycopg.connect(**self._server.login(), dbname="datapusher") as connection:
            connection.execute(UPDATE, [what])
        return f"https://hooks.example.com/{what}"

    def restart(self, how: signal.Signals) -> None:
        postmaster = keeper.postmaster(self._place.home / "data")
        os.kill(postmaster, how)
        eventually(lambda: not Path(f"/proc/{postmaster}").exists())
        eventually(self.read)  # whoever needs it starts it


@pytest.fixture
def own(tmp_path) -> Iterator[Own]:
    major = int(os.environ.get("EMBEDDED_POSTGRES", "18"))
    kept = {name: value for name, value in os.environ.items() if not name.endswith("DATABASE_URL")}
    environment = {**kept, "DATA_DIR": str(tmp_path), "DJANGO_SETTINGS_MODULE": "config.settings"}
    migrate = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
    port = servers.free_port()
    server = embedded.attach(tmp_path, major=major)
    try:
        subprocess.run(migrate, cwd=BASE, env=environment, check=True)
        with servers.running(argv(port), port, environment=environment) as process:
            yield Own(Site(port, process), keeper.Place(tmp_path / "postgres" / str(major)), server)
    finally:
        assert embedded.release(tmp_path, major=major)


def test_postgresql_is_restarted_in_between(own):
    assert own.read() == own.read() == "https://hooks.example.com/"
    for how in (signal.SIGINT, signal.SIGQUIT):  # in good order, and as if it had crashed
        before = own.write(f"before-{how.name}")
        own.restart(how)
        assert own.read() == own.read() == before
        assert own.write(f"after-{how.name}") == own.read() == own.read()
