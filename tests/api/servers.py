"""A granian process on a free port, and sockets that say exactly what they are told to."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import orjson

BASE = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Response:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


class Wire:
    """One connection: `say` bytes, `hear` one response at a time."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb")

    def say(self, *lines: str | bytes, body: bytes = b"") -> None:
        head = b"\r\n".join(line.encode("latin-1") if isinstance(line, str) else line for line in lines)
        self._socket.sendall(head + b"\r\n\r\n" + body)

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def shut(self) -> None:
        """Say no more, and go on listening."""
        self._socket.shutdown(socket.SHUT_WR)

    def hear(self) -> Response | None:
        """The next response; None when the server closed the connection."""
        try:
            first = self._file.readline()
        except ConnectionResetError:
            return None
        if not first:
            return None
        headers: dict[str, str] = {}
        while line := self._file.readline().strip():
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        return Response(
            int(first.split()[1]), headers, self._file.read(int(headers.get("content-length", 0)))
        )

    def closed(self) -> bool:
        """True when the server ends the connection (and says nothing more) within the timeout."""
        with contextlib.suppress(ConnectionResetError):
            return self._file.read(1) == b""
        return True

    def close(self) -> None:
        self._file.close()
        self._socket.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(
    argv: list[str],
    port: int,
    *,
    environment: dict[str, str] | None = None,
    output: IO[str] | None = None,
) -> Iterator[subprocess.Popen[str]]:
    """The process, from the moment it listens; it is asked to end, then made to.

    One that may say much needs a file for its `output`: nobody reads the pipe meanwhile.
    """
    process = subprocess.Popen(
        argv,
        cwd=BASE,
        env=environment or dict(os.environ),
        stdout=output or subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        _until_it_listens(process, port)
        yield process
    finally:
        process.terminate()
        try:
            process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


@contextlib.contextmanager
def site(environment: dict[str, str], log: Path) -> Iterator[str]:
    """The whole gateway but its workers, as it is served: its address. What it says goes to the log."""
    port = free_port()
    with (
        log.open("w") as output,
        running(granian("config.asgi:application", port), port, environment=environment, output=output),
    ):
        yield f"http://127.0.0.1:{port}"


def _until_it_listens(process: subprocess.Popen[str], port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError(f"it ended: {process.communicate()[0]}")
        try:
            wire = Wire(port)
        except ConnectionRefusedError:
            time.sleep(0.05)
            continue
        # Granian listens before its worker runs: who gets an answer knows that it does.
        wire.say("GET /health/live HTTP/1.1", "Host: x", "Connection: close")
        assert wire.hear() is not None
        wire.close()
        return
    raise AssertionError("it does not listen")


def granian(target: str, port: int, *options: str) -> list[str]:
    return [
        *(sys.executable, "-m", "granian", target, "--interface", "asgi", "--loop", "uvloop"),
        *("--http", "1", "--no-ws", "--port", str(port), "--log-level", "warning", *options),
    ]
