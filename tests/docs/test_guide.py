"""Does the guide to the API tell the truth, and would its runner notice if it did not?"""

import contextlib
import http.server
import importlib.util
import os
import re
import socket
import subprocess
import sys
import threading

import pytest

from api import problems
from tests.config.test_up import ROOT, start  # noqa: F401 (a fixture)

RUNNER = ROOT / "docs" / "run.py"
_spec = importlib.util.spec_from_file_location("docs_run", RUNNER)
runner = importlib.util.module_from_spec(_spec)
sys.modules["docs_run"] = runner
_spec.loader.exec_module(runner)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_block_runs_and_shows_what_the_guide_shows(start) -> None:  # noqa: F811 (the fixture)
    run = start()
    run.until("accepted", seconds=120)
    done = subprocess.run(
        [sys.executable, str(RUNNER)],
        cwd=ROOT,
        env={**os.environ, "DATA_DIR": str(run.data_dir)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(list(runner.steps(runner.GUIDE.read_text())))


def test_the_guide_names_every_problem() -> None:
    named = set(re.findall(r"`([a-z-]+)`", runner.GUIDE.read_text()))
    assert {problem.slug for problem in problems.ALL} <= named


@pytest.mark.parametrize(
    ("shown", "output", "right"),
    [
        ("a b", "a   b\n", True),
        ("a b", "a c", False),
        ("a", "a b", False),  # the whole of it
        ("a ...", "a b c", True),
        ("a ...", "a", True),  # anything is also nothing
        ("... c", "a b\nc", True),
        ('{\n  "id": "...",\n  ...\n  "z": 1\n}', '{\n "id": "7",\n "b": [2],\n "z": 1\n}', True),
        ('{\n  "id": "...",\n  ...\n  "z": 1\n}', '{\n "id": "7",\n "z": 2\n}', False),
        ("200 (all)", "200 (all)", True),  # no pattern of any other kind
        ("2.0", "2x0", False),
    ],
)
def test_what_is_shown_is_compared_with_what_is_printed(shown: str, output: str, right: bool) -> None:
    assert runner.matches(shown, output) is right


GUIDE = """
```sh
A=1
echo "one $A"
```
```text
one 1
```

```sh
echo "and $A"
```

Words between: this shows nothing of what stands above.

```text
unrelated
```
"""


def test_blocks_share_one_shell_and_what_stands_directly_below_is_the_result(tmp_path) -> None:
    guide = tmp_path / "guide.md"
    guide.write_text(GUIDE)
    assert [line.partition(" ")[0] for line in runner.run(guide)] == ["guide.md:2", "guide.md:10"]


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ("one 1\n", "one 2\n", "the guide shows"),
        ('echo "and $A"', 'echo "and $A"; false', "ended with 1"),
        ('echo "and $A"', "exit 3", "ended with None"),
    ],
)
def test_it_stops_where_the_guide_is_wrong(tmp_path, before: str, after: str, complaint: str) -> None:
    guide = tmp_path / "guide.md"
    guide.write_text(GUIDE.replace(before, after, 1))
    with pytest.raises(runner.Untrue, match=complaint):
        list(runner.run(guide))


def test_a_block_that_does_not_end_is_ended(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(runner, "MOST_SECONDS", 0.3)
    guide = tmp_path / "guide.md"
    guide.write_text("```sh\nwhile :; do :; done\n```\n")
    with pytest.raises(runner.Untrue, match="ended with None"):
        list(runner.run(guide))


class Starting(http.server.BaseHTTPRequestHandler):
    """A gateway that isn't ready the first time, and whose receiver comes with its second answer."""

    asked: list[str]
    receiver: contextlib.ExitStack
    port: int

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(503 if len(self.asked) == 1 else 200)
        self.end_headers()
        if len(self.asked) == 2:
            self.receiver.enter_context(socket.create_server(("127.0.0.1", self.port)))

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def starting(told):
    """Writes the file that says where it will listen."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with contextlib.ExitStack() as receiver:
        handler = type("Handler", (Starting,), {"asked": [], "receiver": receiver, "port": port})
        with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, args=[0.01]).start()
            url = f"http://127.0.0.1:{server.server_port}"
            told.parent.mkdir(exist_ok=True)
            told.write_text(f"DEMO_URL={url}\nDEMO_WORDS='one two'\nDEMO_RECEIVER_PORT={port}\n")
            try:
                yield handler
            finally:
                server.shutdown()


def test_it_waits_until_gateway_and_receiver_are_there(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(runner, "LOOK_SECONDS", 0.01)
    with starting(tmp_path / "secrets" / "demo.env") as gateway:
        runner.until_up(tmp_path, seconds=10)
    assert set(gateway.asked) == {"/health/ready"}
    assert 2 <= len(gateway.asked) <= 3


@pytest.mark.parametrize(
    ("told", "complaint"),
    [
        (None, "FileNotFoundError"),
        ("DEMO_EMAIL=a@example.com\n", "DEMO_URL"),
        ("DEMO_URL=http://127.0.0.1:1\nDEMO_RECEIVER_PORT=1\n", "ConnectionRefusedError"),
    ],
)
def test_it_says_what_it_waited_for_in_vain(tmp_path, told: str | None, complaint: str) -> None:
    if told is not None:
        (tmp_path / "secrets").mkdir()
        (tmp_path / "secrets" / "demo.env").write_text(told)
    with pytest.raises(runner.NotUp, match=complaint):
        runner.until_up(tmp_path, seconds=0)
