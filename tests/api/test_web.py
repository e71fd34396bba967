"""Does `manage.py web` serve everything on one port, with the real intake on a real database?"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson
import psycopg
import pytest

from tests import databases
from tests.api import servers
from tests.api.servers import Response, Wire

pytestmark = pytest.mark.slow  # each starts `manage.py web` anew

PASSWORD = "correct horse battery staple"


@dataclass(frozen=True)
class Site:
    port: int
    process: subprocess.Popen[str]

    def ask(self, method: str, path: str, content: Any = None, *headers: str) -> Response:
        wire = Wire(self.port)
        body = b"" if content is None else orjson.dumps(content)
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers]
        if content is not None:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        wire.say(*lines, body=body)
        reply = wire.hear()
        wire.close()
        assert reply is not None
        return reply

    def send(self, token: str, event_id: str, content: Any) -> Response:
        return self.ask(
            "POST", "/server/incoming_data", content, f"CL-X-TOKEN: {token}", f"CL-X-EVENT-ID: {event_id}"
        )


def argv(port: int) -> list[str]:
    return [sys.executable, "manage.py", "web", "--port", str(port)]


@pytest.fixture
def site(database) -> Iterator[Site]:
    port = servers.free_port()
    with servers.running(argv(port), port, environment=database.environment) as process:
        yield Site(port, process)


def test_from_registering_to_an_event_on_disk(site, database):
    person = {"email": "alice@people.example.com", "password": PASSWORD}
    assert site.ask("POST", "/api/v1/auth/register/", person).status == 201
    token = site.ask("POST", "/api/v1/auth/login/", person).json["data"]["token"]
    bearer = f"Authorization: Bearer {token}"
    account = site.ask("POST", "/api/v1/accounts/", {"name": "Orders"}, bearer).json["data"]
    destinations = f"/api/v1/accounts/{account['id']}/destinations/"
    new = {"url": "https://hooks.example.com/in", "http_method": "POST", "headers": {}}
    assert site.ask("POST", destinations, new, bearer).status == 201

    secret = account["app_secret_token"]
    accepted = site.send(secret, "order-1", {"paid": True})
    assert accepted.status == 202
    assert accepted.json["event"]["deliveries"] == 1
    assert accepted.headers["ratelimit-policy"] == '"account";q=5;w=1'
    again = site.send(secret, "order-1", {"paid": True})
    assert again.status == 200
    assert again.json["event"] == {**accepted.json["event"], "duplicate": True}
    assert site.send(secret, "order-1", {"paid": False}).status == 409
    assert site.send("clx_unknown", "order-2", {}).status == 401

    with database.connect() as connection:
        stored = connection.execute("SELECT body FROM payload").fetchall()
    assert stored == [(orjson.dumps({"paid": True}),)]
    assert site.ask("DELETE", f"/api/v1/accounts/{account['id']}/", None, bearer).status == 200
    assert site.send(secret, "order-3", {}).status == 401


def test_over_the_limit_is_429_and_a_later_one_is_taken(site, database):
    secret = _account(site)
    replies = [site.send(secret, f"e{number}", {}) for number in range(12)]
    assert {reply.status for reply in replies} == {202, 429}
    refused = next(reply for reply in replies if reply.status == 429)
    assert refused.headers["retry-after"] == "1"
    assert refused.headers["ratelimit"].startswith('"account";r=0;t=')
    time.sleep(int(refused.headers["retry-after"]))
    assert site.send(secret, "later", {}).status == 202


def test_health_and_documents_answer(site):
    assert site.ask("GET", "/health/live").json == {"status": "ok"}
    assert site.ask("GET", "/health/ready").json == {"status": "ok"}
    assert site.ask("GET", "/").headers["location"] == "/api/docs/"
    assert site.ask("GET", "/api/docs/").status == 200
    script = site.ask("GET", "/static/drf_spectacular_sidecar/swagger-ui-dist/swagger-ui-bundle.js")
    assert (script.status, len(script.body) > 1_000_000) == (200, True)
    assert site.ask("GET", "/nothing").json["message"] == "Not Found"


def test_a_database_that_goes_away_is_503_within_two_seconds_and_heals(site, database):
    secret = _account(site)
    name = psycopg.sql.Identifier(database.name)
    with databases.maintenance() as connection:
        connection.execute(psycopg.sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [database.name]
        )
    try:
        began = time.monotonic()
        refused = site.send(secret, "e1", {})
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        assert time.monotonic() - began < 3
        assert refused.json == {"success": False, "message": "Unavailable"}
        assert site.ask("GET", "/health/live").status == 200
        assert site.ask("GET", "/health/ready").status == 503
    finally:
        with databases.maintenance() as connection:
            connection.execute(psycopg.sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))
    assert site.send(secret, "e1", {}).status == 202


def test_thousands_that_say_nothing_are_in_nobodys_way_and_are_sent_away(site):
    silent = [Wire(site.port) for _ in range(2500)]
    began = time.monotonic()
    assert site.ask("GET", "/health/live").status == 200
    assert time.monotonic() - began < 3
    assert silent[0].closed()
    assert time.monotonic() - began < 8
    for wire in silent:
        wire.close()


def test_sigterm_ends_it_well(site):
    site.process.send_signal(signal.SIGTERM)
    assert site.process.wait(15) == 0


def test_a_worker_that_dies_is_replaced(site):
    children = subprocess.run(
        ["pgrep", "-P", str(site.process.pid), "-f", "multiprocessing.spawn|granian"],
        capture_output=True,
        text=True,
        check=True,
    )
    for child in children.stdout.split():
        os.kill(int(child), signal.SIGKILL)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            if site.ask("GET", "/health/live").status == 200:
                return
        except (AssertionError, OSError):
            time.sleep(0.1)
    pytest.fail("nobody answers")


def test_it_does_not_start_without_migrations(database):
    with database.connect_owner() as owner:
        owner.execute("DELETE FROM django_migrations WHERE app = 'outbox'")
    ended = subprocess.run(
        argv(servers.free_port()),
        cwd=servers.BASE,
        env=database.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert "run manage.py migrate" in ended.stderr
    assert "Traceback" not in ended.stderr


def _account(site: Site) -> str:
    person = {"email": "alice@people.example.com", "password": PASSWORD}
    site.ask("POST", "/api/v1/auth/register/", person)
    token = site.ask("POST", "/api/v1/auth/login/", person).json["data"]["token"]
    made = site.ask("POST", "/api/v1/accounts/", {"name": "Orders"}, f"Authorization: Bearer {token}")
    return str(made.json["data"]["app_secret_token"])
