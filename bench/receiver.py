"""What did the destinations see, and when? A receiver fast enough that it is never the limit.

A process of its own (`python -m bench.receiver`) on uvloop, which reads just the HTTP/1.1 that our sender
writes: one request after the other on kept connections, bodies with a length. It answers 200 with an empty
body, or as `answer` says for a path, and keeps one line in memory for each request: that is the ledger. It
ends with its parent, because the pipe that the commands come by ends then.

    with Receiver() as receiver:
        receiver.answer("/dead", status=503)
        ...
        receiver.sightings()
"""

import asyncio
import contextlib
import gc
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self, cast

import uvloop

BACKLOG = 2048
PATIENCE_SECONDS = 60.0


class Sighting(NamedTuple):
    """One request, when the last of its bytes was here (CLOCK_MONOTONIC, nanoseconds)."""

    at_ns: int
    path: str
    event_id: str
    delivery_id: str
    attempt: int


class Answer(NamedTuple):
    """What a path answers, and after how long; None: never."""

    content: bytes
    delay: float | None


# --- the parent's side -------------------------------------------------------------------------------------


class Receiver:
    """A receiver as its parent sees it: where it listens, what it has seen, how it should answer."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.receiver"],
            cwd=Path(__file__).resolve().parent.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port = int(self._heard())
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with self.process:  # closes the pipes, waits
            pass

    def answer(self, path: str, *, status: int = 200, delay: float | None = 0.0) -> None:
        """From now on `path` answers with this status after so many seconds; `delay=None`: never."""
        self._ask(f"answer {path} {status} {'never' if delay is None else delay}")

    def count(self) -> int:
        """How many requests since the last `reset`."""
        return int(self._ask("count"))

    def reset(self) -> None:
        self._ask("reset")

    def sightings(self) -> list[Sighting]:
        """All since the last `reset`, in the order of their arrival."""
        with tempfile.NamedTemporaryFile() as file:
            self._ask(f"dump {file.name}")
            return list(_read(Path(file.name)))

    def wait_for(self, count: int, *, timeout: float = PATIENCE_SECONDS) -> None:
        """Until there are so many; TimeoutError names how many there were."""
        until = time.monotonic() + timeout
        while (seen := self.count()) < count:
            if time.monotonic() > until:
                raise TimeoutError(f"{seen} of {count} requests arrived within {timeout:g} s")
            time.sleep(0.02)

    def _ask(self, command: str) -> str:
        assert self.process.stdin is not None  # noqa: S101 - for the type checker
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self._heard()

    def _heard(self) -> str:
        assert self.process.stdout is not None  # noqa: S101 - for the type checker
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the receiver ended with status {self.process.wait()}")
        return line.strip()


def _read(ledger: Path) -> Iterator[Sighting]:
    with ledger.open() as lines:
        for line in lines:
            at_ns, attempt, delivery_id, event_id, path = line.rstrip("\n").split(" ", 4)
            yield Sighting(int(at_ns), path, event_id, delivery_id, int(attempt))


# --- the process -------------------------------------------------------------------------------------------


def head(status: int) -> bytes:
    return b"HTTP/1.1 %d Scripted\r\nContent-Length: 0\r\n\r\n" % status


AT_ONCE = Answer(head(200), 0.0)


class Ledger:
    """What was seen, a line each: half a million of them take some 70 MB, and none of them is an object."""

    def __init__(self) -> None:
        self.lines = bytearray()
        self.count = 0
        self.answers: dict[bytes, Answer] = {}

    def clear(self) -> None:
        self.lines = bytearray()
        self.count = 0


class Connection(asyncio.Protocol):
    """Requests on one connection, strictly one after the other: a late answer holds back what came behind."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._arrived = b""
        self._held_back = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one but by name

    def data_received(self, data: bytes) -> None:
        self._arrived = self._arrived + data if self._arrived else data
        self._answer()

    def _answer(self) -> None:
        while self._arrived and not self._held_back and not self._transport.is_closing():
            end = self._arrived.find(b"\r\n\r\n")
            if end < 0:
                return
            lower = self._arrived[:end].lower() + b"\r\n"
            whole = end + 4 + int(_value(lower, lower, b"\r\ncontent-length:") or 0)
            if len(self._arrived) < whole:
                return
            path = self._seen(self._arrived[:end] + b"\r\n", lower)
            self._arrived = self._arrived[whole:]
            self._send(self._ledger.answers.get(path, AT_ONCE))

    def _seen(self, original: bytes, lower: bytes) -> bytes:
        path = original.split(b" ", 2)[1].partition(b"?")[0]
        self._ledger.count += 1
        self._ledger.lines += b"%d %b %b %b %b\n" % (
            time.monotonic_ns(),
            _value(original, lower, b"\r\ncl-x-attempt:") or b"0",
            _value(original, lower, b"\r\nwebhook-id:") or b"-",
            _value(original, lower, b"\r\ncl-x-event-id:") or b"-",
            path,
        )
        return path

    def _send(self, answer: Answer) -> None:
        if answer.delay == 0:
            self._transport.write(answer.content)
            return
        self._held_back = True
        if answer.delay is not None:
            asyncio.get_running_loop().call_later(answer.delay, self._send_late, answer.content)

    def _send_late(self, content: bytes) -> None:
        if not self._transport.is_closing():
            self._held_back = False
            self._transport.write(content)
            self._answer()


def _value(original: bytes, lower: bytes, name: bytes) -> bytes:
    """A header's value as it was sent; `name` in lower case, from the line's end before it to its colon."""
    begin = lower.find(name)
    if begin < 0:
        return b""
    begin += len(name)
    return original[begin : lower.index(b"\r\n", begin)].strip()


def obey(ledger: Ledger, command: str) -> str:
    """Do what one line from the parent asks, and say what to answer."""
    match command.split():
        case ["count"]:
            return str(ledger.count)
        case ["reset"]:
            ledger.clear()
        case ["dump", path]:
            Path(path).write_bytes(ledger.lines)
        case ["answer", path, status, delay]:
            seconds = None if delay == "never" else float(delay)
            ledger.answers[path.encode()] = Answer(head(int(status)), seconds)
        case _:
            raise ValueError(f"no such command: {command}")
    return "done"


async def _serve() -> None:
    ledger = Ledger()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(ledger), "127.0.0.1", 0, backlog=BACKLOG)
    print(server.sockets[0].getsockname()[1], flush=True)
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while line := await commands.readline():
        print(obey(ledger, line.decode()), flush=True)


if __name__ == "__main__":
    gc.disable()  # requests leave no circles behind, and a collection would be a pause
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(_serve())
