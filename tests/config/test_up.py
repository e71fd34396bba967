"""Does one command start everything, keep it alive, and end all of it?"""

import contextlib
import http.server
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from django.core.management.base import CommandError
from django.db import OperationalError

from config.management.commands import up
from demo import keep

ROOT = Path(__file__).resolve().parents[2]
OURS = ("DATABASE_URL", "MIGRATION_DATABASE_URL", "SECRET_KEY", "ENCRYPTION_KEYS", "REDIS_URL", "DEMO",
        "HOST", "LOG_LEVEL", "DESTINATION_ALLOW", "NO_COLOR", "FORCE_COLOR")  # fmt: skip


class Run:
    """`manage.py up` as a process of its own, and what it said."""

    def __init__(self, data_dir: Path, **environment: str) -> None:
        self.data_dir = data_dir
        self.port = _free_port()
        given = {name: value for name, value in os.environ.items() if name not in OURS}
        given |= {
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "DATA_DIR": str(data_dir),
            "PORT": str(self.port),
        }
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "up"],
            cwd=ROOT,
            env=given | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.lines: list[str] = []
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def until(self, pattern: str, *, seconds: float = 60) -> str:
        """The first line that has it."""
        deadline = time.monotonic() + seconds
        while True:
            if found := next((line for line in self.lines if re.search(pattern, line)), None):
                return found
            assert time.monotonic() < deadline, f"no {pattern!r} in:\n" + "\n".join(self.lines[-60:])
            assert self.process.poll() is None or self._reading.is_alive(), "\n".join(self.lines[-60:])
            time.sleep(0.05)

    def end(self, number: int = signal.SIGTERM, *, seconds: float = 60) -> int:
        self.process.send_signal(number)
        status = self.process.wait(seconds)
        self._reading.join(10)
        return status

    def everybody(self) -> list[psutil.Process]:
        """All processes of this start: by its data folder in command, environment or working folder."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                signs = (" ".join(process.cmdline()), process.environ().get("DATA_DIR", ""), process.cwd())
                if any(str(self.data_dir) in sign for sign in signs):
                    found.append(process)
        return [one for one in found if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]

    def named(self, part: str) -> list[psutil.Process]:
        return [one for one in self.everybody() if part in " ".join(one.cmdline())]

    def clear(self) -> None:
        self.process.kill()
        self.process.wait()
        for process in self.everybody():
            with contextlib.suppress(psutil.Error):
                process.kill()
        self._reading.join(10)
        self.process.stdout.close()


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[..., Run]]:
    with contextlib.ExitStack() as stack:

        def begin(**environment: str) -> Run:
            run = Run(tmp_path / "data", **environment)
            stack.callback(run.clear)
            return run

        yield begin


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


def _eventually(holds: Callable[[], bool], *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _shell(command: str) -> str:
    return subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout


# --- what a newcomer sees -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_one_command_shows_the_product_at_work_and_ends_without_a_trace(start) -> None:
    run = start()

    ready = run.until("Ready after", seconds=90)
    assert float(re.search(r"after ([\d.]+) s", ready)[1]) < 60
    run.until(rf"Address +http://127\.0\.0\.1:{run.port}/$")
    run.until(rf"Documents +http://127\.0\.0\.1:{run.port}/api/docs/")
    for pattern in (
        r"accepted +\w+-001 .*for 3 destinations",
        r"delivered +\w+-001 .*POST try 1, signature valid",
        r"delivered +\w+-001 .*GET +try 1, signature valid",
        r"refused +\w+-001 .*PUT +try 1, signature valid, answered 503",
        r"retried +\w+-001 .*PUT +try [23], signature valid",
        r"logged +\w+-001 .*3 of 3 success, [45] tries",
    ):
        run.until(pattern)
    assert not [line for line in run.lines if re.search("Traceback|SIGNATURE|NOT SIGNED| failed ", line)]

    # The commands that it prints work as they are.
    post, read = (run.until(rf"^  curl .*{path}").strip() for path in ("incoming_data", "/logs/"))
    assert " 202 Accepted" in _shell(post).partition("\n")[0]
    run.until(r"delivered +mine-\w+ +yours")
    _eventually(lambda: _shell(read).count('"success"') == 3)
    kept = keep.path(run.data_dir)
    hello = (
        f'. {kept} && curl -i "$DEMO_URL/server/incoming_data" -H "CL-X-TOKEN: $DEMO_TOKEN"'
        """ -H 'CL-X-EVENT-ID: hello-1' -H 'Content-Type: application/json' -d '{"hello": "world"}'"""
    )
    # Twice in a row, beside the demo's own events: nobody is told to wait.
    assert [_shell(hello).split()[1] for _ in range(2)] == ["202", "200"]
    logs = f'. {kept} && curl -i "$DEMO_URL/api/v1/accounts/$DEMO_ACCOUNT/logs/?event_id=hello-1"'
    assert " 200 OK" in _shell(f'{logs} -H "Authorization: Bearer $DEMO_BEARER"')

    assert run.end() == 0
    assert run.lines[-1] == "Everything has ended."
    assert not [one.cmdline() for one in run.everybody()]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_whatever_dies_comes_back_and_a_killed_command_leaves_nobody(start) -> None:
    run = start()
    run.until("logged +", seconds=120)

    for name, parts in (
        ("web", ["granian"]),
        ("worker", ["manage.py", "worker"]),
        ("demo", ["manage.py", "demo"]),
    ):
        victim = next(
            one
            for one in psutil.Process(run.process.pid).children()
            if all(part in " ".join(one.cmdline()) for part in parts)
        )
        victim.kill()
        run.until(rf"^{name} ended \(killed by SIGKILL\): starting it again in 0\.5 s")
    (postgres,) = [one for one in run.everybody() if one.cmdline()[0].endswith("/postgres")]
    postgres.kill()

    seen = len(run.lines)
    _eventually(lambda: any("accepted" in line for line in run.lines[seen:]))
    seen = len(run.lines)
    _eventually(lambda: any("logged" in line for line in run.lines[seen:]), seconds=90)

    run.process.kill()
    _eventually(lambda: not run.everybody(), seconds=90)


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_without_the_demo_it_says_how_to_register(start) -> None:
    run = start(DEMO="0")

    run.until("Ready after", seconds=90)
    run.until(rf"register first: curl http://127\.0\.0\.1:{run.port}/api/v1/auth/register/")
    assert not run.named("manage.py demo")
    assert run.end(signal.SIGINT) == 0
    assert not keep.path(run.data_dir).exists()
    assert not run.everybody()


# --- what can be in the way ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_port_in_use_is_one_clear_line(start, monkeypatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run = start(PORT=str(port))
        assert run.process.wait(60) == 1
        run._reading.join(10)

    assert run.lines == [
        f"CommandError: Port {port} of 127.0.0.1 is in use. Choose another one: PORT={port + 1} make up"
    ]


def test_an_address_that_is_not_ours_is_one_clear_line() -> None:
    with pytest.raises(CommandError, match=r"^Can't listen on port 8000 of 192\.0\.2\.1: "):
        up.refuse_taken_port("192.0.2.1", 8000)


@pytest.mark.slow
def test_a_database_that_is_away_is_waited_for_until_ctrl_c(start) -> None:
    run = start(
        DATABASE_URL=f"postgresql://app@127.0.0.1:{_free_port()}/dp",
        SECRET_KEY="x",
        ENCRYPTION_KEYS="k1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    )

    run.until("PostgreSQL can't be used yet, trying again: .*refused")
    assert run.end(signal.SIGINT) == 130
    assert len(run.lines) == 2


def test_a_database_that_comes_later_is_used(monkeypatch, capsys) -> None:
    answers = [OperationalError("starting up\nmore"), OperationalError("starting up\nmore"), None]

    def migrate(*_: object, **__: object) -> None:
        if error := answers.pop(0):
            raise error

    monkeypatch.setattr(up, "call_command", migrate)
    monkeypatch.setattr(up, "DATABASE_PAUSE_SECONDS", 0)
    command = up.Command()
    command.told = ""
    command.prepare_database()

    assert not answers
    assert capsys.readouterr().out.splitlines()[1:] == [
        "PostgreSQL can't be used yet, trying again: starting up"
    ]


# --- the pieces ---------------------------------------------------------------------------------------------


class Health(http.server.BaseHTTPRequestHandler):
    answer = (200, b'{"status": "ok"}')

    def do_GET(self) -> None:
        status, body = self.answer if self.path == "/health/ready" else (404, b"")
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((200, b'{"status": "ok"}'), ""),
        ((503, b'{"status": "unavailable", "reasons": ["a", "b"]}'), "a; b"),
        ((502, b"<html>"), "web doesn't answer (JSONDecodeError)"),  # somebody else's answer
    ],
)
def test_readiness_is_what_web_says(answer: tuple[int, bytes], reason: str) -> None:
    handler = type("Handler", (Health,), {"answer": answer})
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        assert up.why_unready("127.0.0.1", server.server_port) == reason
        thread.join()


def test_nobody_there_is_not_ready() -> None:
    assert up.why_unready("127.0.0.1", _free_port()) == "web doesn't answer (ConnectionRefusedError)"


def test_the_demo_opens_its_receivers_address_and_port_alone(settings, tmp_path) -> None:
    settings.DATA_DIR, settings.DESTINATION_ALLOW = tmp_path, ["10.0.0.0/8", "192.0.2.1/32:9000"]

    opened = up.opened_for_demo()

    port = keep.receiver_port(tmp_path)
    assert opened == f"10.0.0.0/8,192.0.2.1/32:9000,127.0.0.1/32:{port}"


@pytest.mark.parametrize(
    ("given", "level"), [({}, "WARNING"), ({"LOG_LEVEL": " "}, "WARNING"), ({"LOG_LEVEL": "INFO"}, "INFO")]
)
def test_children_are_quiet_unless_told_otherwise(monkeypatch, given: dict[str, str], level: str) -> None:
    monkeypatch.delenv("LOG_LEVEL", raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)

    assert up.children_environment()["LOG_LEVEL"] == level


@pytest.mark.parametrize(
    ("terminal", "no_color", "colours"), [(True, "", True), (True, "1", False), (False, "", False)]
)
def test_children_use_colours_on_a_terminal(
    monkeypatch, terminal: bool, no_color: str, colours: bool
) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)

    assert ("FORCE_COLOR" in up.children_environment()) is colours


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000/"),
        ("0.0.0.0", "http://127.0.0.1:8000/"),  # everywhere: say where to look
        ("::", "http://[::1]:8000/"),
        ("push.example.com", "http://push.example.com:8000/"),
    ],
)
def test_the_welcome_says_where(settings, host: str, url: str) -> None:
    settings.HOST, settings.PORT = host, 8000

    lines = up.welcome(3.21, demo=True)

    assert lines[0].startswith("Ready after 3.2 s.")
    assert lines[1].split() == ["Address", url]
    assert lines[2].split() == ["Documents", f"{url}api/docs/"]
