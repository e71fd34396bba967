"""Does the guide tell the truth? Runs every `sh` block of docs/api.md in one shell, in order.

Stops at the first that fails, or whose output is not what the block after it shows, where `...` stands for
anything. Needs what a reader has: `make up` in another terminal, curl, and this folder. (`make guide`)
It waits a little for a start that is under way: the file that says where it listens may be of the one before.
"""

# ruff: noqa: INP001 (a script, and no package)
import http.client
import os
import re
import shlex
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 15.0
ANSWER_SECONDS = 3.0
LOOK_SECONDS = 0.2
MOST_SECONDS = 60.0
GUIDE = ROOT / "docs" / "api.md"
_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Step:
    """A block of commands, where it stands, and what the guide shows under it ("" shows nothing)."""

    line: int
    commands: str
    shown: str


def steps(text: str) -> Iterator[Step]:
    blocks = list(_FENCED.finditer(text))
    for block, following in zip(blocks, [*blocks[1:], None], strict=True):
        if block[1] != "sh":
            continue
        directly = following is not None and not text[block.end() : following.start()].strip()
        shown = following[2] if following is not None and directly and following[1] != "sh" else ""
        yield Step(text.count("\n", 0, block.start()) + 1, block[2], shown)


def matches(shown: str, output: str) -> bool:
    """Line breaks and spaces are for the eye: any run of them is like any other."""
    pattern = ".*?".join(re.escape(" ".join(part.split())) for part in shown.split("..."))
    # Beside what stands for anything, spaces may be there or not.
    pattern = pattern.replace(r".*?", r"\s?.*?\s?")
    return re.fullmatch(r"\s*" + pattern + r"\s*", " ".join(output.split()), re.DOTALL) is not None


class NotUp(Exception):
    """What the guide needs is not there."""


def until_up(data_dir: Path, *, seconds: float = START_SECONDS) -> None:
    """Wait until the gateway is ready and the demo's receiver listens. Raises NotUp."""
    ends = time.monotonic() + seconds
    while reason := _missing(data_dir / "secrets" / "demo.env"):
        if time.monotonic() > ends:
            raise NotUp(reason)
        time.sleep(LOOK_SECONDS)


def _missing(told: Path) -> str:
    """What is not there, in words; "" when all is. The file is read anew: a start replaces it."""
    try:
        values = dict(line.split("=", 1) for line in shlex.split(told.read_text()))
        url = values["DEMO_URL"]
        if (status := _status(f"{url}/health/ready")) != http.client.OK:
            return f"{url} is not ready: {status}"
        receiver = "127.0.0.1", int(values["DEMO_RECEIVER_PORT"])
        socket.create_connection(receiver, timeout=ANSWER_SECONDS).close()
    except (OSError, http.client.HTTPException, KeyError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _status(url: str) -> int:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", parts.path)
        return connection.getresponse().status
    finally:
        connection.close()


class Untrue(Exception):
    """A block fails, or prints something else than the guide shows."""


class Shell:
    """One shell for all blocks, so that each has the variables of those before."""

    def __init__(self, folder: Path = ROOT) -> None:
        self._process = subprocess.Popen(
            ["/bin/sh"],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, commands: str) -> tuple[int | None, str]:
        """Its exit status (None: the shell itself ended, or took too long) and what it printed."""
        patience = threading.Timer(MOST_SECONDS, self._process.kill)
        patience.start()
        try:
            return self._run(commands)
        finally:
            patience.cancel()

    def _run(self, commands: str) -> tuple[int | None, str]:
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the shell has no pipes")
        mark = f"--- the end of the block {time.monotonic_ns()}"
        self._process.stdin.write(f"{commands}\nprintf '\\n%s %s\\n' '{mark}' $?\n")
        self._process.stdin.flush()
        printed: list[str] = []
        for line in self._process.stdout:
            if line.startswith(mark):
                return int(line.split()[-1]), "".join(printed)
            printed.append(line)
        return None, "".join(printed)

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def wrong(step: Step, status: int | None, output: str) -> str:
    """What is wrong with the block, in words; "" when it is as the guide says."""
    if status != 0:
        return f"ended with {status}"
    if step.shown and not matches(step.shown, output):
        return f"the guide shows\n\n{step.shown}"
    return ""


def run(guide: Path) -> Iterator[str]:
    """Tells of each step. Raises Untrue at the first that is not as the guide says."""
    shell = Shell()
    try:
        for step in steps(guide.read_text()):
            began = time.monotonic()
            status, output = shell.run(step.commands)
            if problem := wrong(step, status, output):
                raise Untrue(
                    f"{guide.name}:{step.line}\n\n{step.commands}\n{problem}\nbut it printed\n\n{output}"
                )
            first = step.commands.partition("\n")[0]
            yield f"{guide.name}:{step.line:<4} {time.monotonic() - began:5.2f} s  {first[:90]}"
    finally:
        shell.close()


def main() -> int:
    try:
        until_up(ROOT / (os.environ.get("DATA_DIR") or ".data"))
        for line in run(GUIDE):
            sys.stdout.write(line + "\n")
    except NotUp as error:
        sys.stderr.write(f"Is `make up` running? {error}\n")
        return 1
    except Untrue as untrue:
        sys.stderr.write(f"{untrue}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
