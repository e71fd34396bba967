"""What did a destination really see, byte for byte?

A real HTTP/1.1 receiver on a loopback socket, in a thread of its own, so that synchronous tests,
asynchronous ones and subprocesses can all use it. It writes down every request whose head and body arrived,
and answers by script:

    with Receiver() as receiver:
        receiver.on("/hook", Answer(500), Answer(200))   # the last one repeats
        ...
        (sighting,) = receiver.wait_for(1)
        assert sighting.headers["webhook-id"] == ...

In pytest: `from tests.receivers import receiver` in a conftest makes the fixture of that name available.
"""

import asyncio
import contextlib
import itertools
import socket
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Self

import pytest


@dataclass(frozen=True)
class Sighting:
    """One request as it arrived. `target` is the exact text between method and version; `at` is Unix time."""

    method: str
    target: str
    header_list: tuple[tuple[str, str], ...]
    body: bytes
    at: float
    connection: int

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]

    @property
    def headers(self) -> dict[str, str]:
        """Lower-case names; a repeated header's last value."""
        return {name.lower(): value for name, value in self.header_list}


@dataclass(frozen=True)
class Answer:
    """A well-formed answer. `delay` is in seconds; `close` closes the connection after it."""

    status: int = 200
    body: bytes = b"ok"
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0
    close: bool = False

    def to_bytes(self) -> bytes:
        head = [f"HTTP/1.1 {self.status} Scripted", f"Content-Length: {len(self.body)}"]
        head += [f"{name}: {value}" for name, value in self.headers.items()]
        head += ["Connection: close"] if self.close else []
        return "\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + self.body


Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Scripted = Answer | Script


class Receiver:
    """A destination under test. Scripts that are coroutines get the raw streams and may do anything."""

    def __init__(self, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", port: int = 0) -> None:
        self.default: Scripted = Answer()
        self.on_connect: Script | None = None  # replaces the reading of requests altogether
        self.connections = 0
        self._scripts: dict[str, tuple[Scripted, ...]] = {}
        self._turns: dict[str, itertools.count[int]] = {}
        self._seen: list[Sighting] = []
        self._news = threading.Condition()
        self._tls = tls
        self._socket = socket.create_server((host, port), backlog=1024)
        self.host, self.port = self._socket.getsockname()[:2]
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, name="receiver", daemon=True)
        self._ready = threading.Event()
        self._thread.start()
        self._ready.wait(10)

    # --- what tests say and ask ----------------------------------------------------------------------------

    def url(self, path: str = "/", *, host: str | None = None) -> str:
        return f"{'https' if self._tls else 'http'}://{host or self.host}:{self.port}{path}"

    def on(self, path: str, *answers: Scripted) -> None:
        """Answer requests to `path` with these in turn; the last repeats."""
        self._turns[path] = itertools.count()
        self._scripts[path] = answers

    @property
    def seen(self) -> tuple[Sighting, ...]:
        with self._news:
            return tuple(self._seen)

    def at(self, path: str) -> tuple[Sighting, ...]:
        return tuple(sighting for sighting in self.seen if sighting.path == path)

    def wait_for(self, count: int, *, path: str | None = None, timeout: float = 10) -> tuple[Sighting, ...]:
        """The sightings, once there are at least `count`; AssertionError after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        with self._news:
            while True:
                seen = tuple(one for one in self._seen if path is None or one.path == path)
                if len(seen) >= count:
                    return seen
                left = deadline - time.monotonic()
                assert left > 0, f"{len(seen)} of {count} requests seen within {timeout} s"
                self._news.wait(left)

    def forget(self) -> None:
        with self._news:
            self._seen.clear()

    def hang_up(self) -> None:
        """Close every open connection, as a restarted server does; go on listening."""
        asyncio.run_coroutine_threadsafe(self._hang_up(), self._loop).result(10)

    def close(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- the server ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            asyncio.set_event_loop(None)
            self._loop.close()
            self._socket.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._connected, sock=self._socket, ssl=self._tls, limit=1 << 22)
        self._ready.set()
        await self._stop.wait()
        server.close()
        await asyncio.sleep(0)  # what was accepted just now gets its task, and is in `_tasks`
        await self._hang_up()
        if hasattr(server, "abort_clients"):  # from Python 3.13 on: also those in the middle of a handshake
            server.abort_clients()
        for _ in range(3):  # an aborted transport closes its socket in one of the loop's next turns
            await asyncio.sleep(0)

    async def _hang_up(self) -> None:
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        number = self.connections
        try:
            if self.on_connect is not None:
                await self.on_connect(reader, writer)
            else:
                await self._converse(reader, writer, number)
        except (OSError, EOFError, asyncio.CancelledError):
            pass  # the other side went away, or the test is over
        finally:
            self._tasks.discard(task)
            writer.transport.abort() if task.cancelling() else writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _converse(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> None:
        while not writer.is_closing():
            sighting = await self._read(reader, number)
            scripted = self._scripted(sighting.path)
            with self._news:
                self._seen.append(sighting)
                self._news.notify_all()
            if not isinstance(scripted, Answer):
                await scripted(reader, writer)
                continue
            if scripted.delay:
                await asyncio.sleep(scripted.delay)
            writer.write(scripted.to_bytes())
            await writer.drain()
            if scripted.close:
                return

    def _scripted(self, path: str) -> Scripted:
        answers = self._scripts.get(path)
        if not answers:
            return self.default
        return answers[min(next(self._turns[path]), len(answers) - 1)]

    async def _read(self, reader: asyncio.StreamReader, number: int) -> Sighting:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
        method, target, _ = first.split(" ")
        pairs = [line.partition(":") for line in lines]
        headers = tuple((name, value.strip(" \t")) for name, _, value in pairs)
        lowered = {name.lower(): value for name, value in headers}
        if lowered.get("transfer-encoding", "").lower() == "chunked":
            body = await _read_chunks(reader)
        else:
            body = await reader.readexactly(int(lowered.get("content-length", "0")))
        return Sighting(method, target, headers, body, time.time(), number)


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while size := int((await reader.readline()).partition(b";")[0], 16):
        body += await reader.readexactly(size)
        await reader.readline()
    while (await reader.readline()).strip():
        pass
    return bytes(body)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running
