"""What does Sentry hear, and from whom?

A real receiver stands in for Sentry; what fails is a process of its own, because Sentry's client patches
logging for good.
"""

import contextlib
import gzip
import http.server
import json
import os
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator

import pytest

from config import reporting
from config.embedded import CODE
from config.environment import SettingError
from config.release import VERSION

CANARY = "canary7d1c0f"

PROGRAM = """
import logging, os, sys
import django
django.setup()
from django.conf import settings
from django.test import Client
import sentry_sdk
CANARY = sys.argv[1]

def in_a_view():
    from api.endpoint import Endpoint
    def fall(*args, **kwargs):
        secret = CANARY
        raise ValueError(f"no {CANARY} in here") from KeyError(CANARY)
    Endpoint.initial = fall
    client = Client(raise_request_exception=False)
    headers = {"Authorization": f"Bearer {CANARY}", "CL-X-TOKEN": CANARY, "Cookie": f"sessionid={CANARY}"}
    answer = client.post(
        f"/api/v1/auth/login/?q={CANARY}", {"password": CANARY}, "application/json", headers=headers)
    assert answer.status_code == 500, answer.status_code

def in_the_receiver():
    import asyncio
    from api.receiver import Receiver
    from accounts import tokens
    class Falls:
        async def accept(self, submission):
            raise RuntimeError(CANARY)
    async def receive():
        return {"type": "http.request", "body": b'{"a": "%s"}' % CANARY.encode(), "more_body": False}
    async def send(message):
        pass
    length = b"%d" % len(CANARY + '{"a": ""}')
    headers = [(b"cl-x-token", tokens.make().text.encode()), (b"cl-x-event-id", CANARY.encode()),
        (b"content-type", b"application/json"), (b"content-length", length)]
    scope = {"type": "http", "method": "POST", "path": "/server/incoming_data", "headers": headers}
    asyncio.run(Receiver(Falls(), most_bytes=1000)(scope, receive, send))

def in_a_forked_child():
    sys.stdout.flush()
    if os.fork() == 0:
        try:
            raise OSError(2, CANARY)
        except OSError:
            logging.getLogger("outbox.worker").exception("sending failed")
        sentry_sdk.flush(5)
        os._exit(0)
    os.wait()

def in_a_thread():
    import threading
    def fall():
        raise LookupError(CANARY)
    thread = threading.Thread(target=fall)
    thread.start()
    thread.join()

def at_a_host_that_is_not_ours():
    from django.test import Client
    assert Client().get("/api/v1/accounts/", headers={"Host": f"{CANARY} {CANARY}"}).status_code == 400

def nowhere():
    logging.getLogger("api").error("said")
    print(sentry_sdk.get_client().is_active())

for name in sys.argv[2:]:
    globals()[name]()
    sentry_sdk.flush(5)
"""


class Sentry:
    """Keeps what is sent to it."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.headers: list[str] = []

    @property
    def events(self) -> list[dict]:
        lines = [line for body in self.bodies for line in body.splitlines()]
        found = [json.loads(line) for line in lines if line.startswith(b"{")]
        return [line for line in found if "logger" in line or "exception" in line]


def run(*what: str, dsn: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key in {"PATH", "HOME", "LANG"}}
    environment |= {
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
        "SECRET_KEY": "x",
        "ENCRYPTION_KEYS": f"k1:{'A' * 43}=",
        "SENTRY_ENVIRONMENT": "staging",
        "LOG_LEVEL": "DEBUG",
    }
    if dsn:
        environment["SENTRY_DSN"] = dsn
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, CANARY, *what],
        cwd=CODE,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@contextlib.contextmanager
def listening() -> Iterator[tuple[Sentry, str]]:
    kept = Sentry()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            kept.bodies.append(gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body)
            kept.headers.append(str(self.headers))
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield kept, f"http://key@127.0.0.1:{server.server_port}/1"
        server.shutdown()


FALLS = {  # where: the kind of error, the logger
    "in_a_view": ("ValueError", "django.request"),
    "in_the_receiver": ("RuntimeError", "api.receiver"),
    "in_a_forked_child": ("FileNotFoundError", "outbox.worker"),  # as Django-Q2's workers are
    "in_a_thread": ("LookupError", None),
}


@pytest.fixture(scope="module")
def heard() -> Iterator[tuple[Sentry, str]]:
    """What arrived when it failed everywhere, and what the process printed."""
    with listening() as (kept, dsn):
        done = run(*FALLS, "at_a_host_that_is_not_ours", dsn=dsn)
    assert done.returncode == 0, done.stderr
    return kept, done.stderr + done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("where", FALLS)
def test_an_unforeseen_error_arrives_with_its_place(heard, where):
    kind, logger = FALLS[where]
    [event] = [one for one in heard[0].events if one["exception"]["values"][-1]["type"] == kind]
    assert event["exception"]["values"][-1]["stacktrace"]["frames"][-1]["lineno"] > 0
    assert event.get("logger") == logger
    assert event["environment"] == "staging"
    assert event["release"].startswith("data-pusher@")


def test_nobody_is_quoted(heard):
    kept, printed = heard
    assert len(kept.events) == len(FALLS)
    assert CANARY not in b"".join(kept.bodies).decode() + "".join(kept.headers)
    ours, _, interpreters = printed.partition("Exception in thread")
    assert CANARY not in ours
    assert CANARY in interpreters  # the canary was alive


def test_the_route_is_told_and_not_the_path(heard):
    [event] = [one for one in heard[0].events if one.get("logger") == "django.request"]
    assert event["tags"] == {"method": "POST", "route": "api/v1/auth/login/"}
    assert event["logentry"]["message"] == "Internal Server Error: api/v1/auth/login/"
    assert "request" not in event


@pytest.mark.slow
def test_without_a_dsn_nothing_is_begun():
    assert run("nowhere", dsn="").stdout.strip() == "False"


@pytest.mark.parametrize("dsn", ["s3cret", "ftp://s3cret@host/1", "https://host/1", "https://s3cret@host/x"])
def test_a_wrong_dsn_stops_the_start_by_its_name(dsn):
    with pytest.raises(SettingError, match="SENTRY_DSN must be like") as caught:
        reporting.checked_dsn(dsn)
    assert "s3cret" not in str(caught.value)


def test_the_release_is_the_projects():
    assert tomllib.loads((CODE / "pyproject.toml").read_text())["project"]["version"] == VERSION
