"""What stands in front of two web processes? A proxy that asks the next one when a first did not answer.

It tries again after a connection that failed or ended without a byte, and after 503; never once a byte of the
answer is there. A repeated event is harmless: the same id and bytes are answered as a duplicate.
"""

import asyncio
import collections
import itertools
import threading
from collections.abc import Sequence
from typing import Self

TRIES = 40
PAUSE_SECONDS = 0.05


class CutShortError(Exception):
    """The answer had begun: nobody may ask again."""


class Balancer:
    """A context, in a thread of its own. `counted`: what happened, by name."""

    def __init__(self, ports: Sequence[int]) -> None:
        self.counted: collections.Counter[str] = collections.Counter()
        self._turns = itertools.cycle(ports)
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="balancer", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        self._clients: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = asyncio.current_task()
        assert client is not None
        self._clients.add(client)
        try:
            while True:
                head, body = await _message(reader)
                writer.write(await self._answer(head + body))
                await writer.drain()
        except (OSError, EOFError, CutShortError, asyncio.CancelledError):
            pass  # the client has gone, or gets nothing more
        finally:
            self._clients.discard(client)
            writer.close()

    async def _answer(self, request: bytes) -> bytes:
        answer = b""
        for _ in range(TRIES):
            try:
                answer = await self._ask(next(self._turns), request)
            except (OSError, EOFError):
                self.counted["no answer"] += 1
            else:
                if not answer.startswith(b"HTTP/1.1 503 "):
                    return answer
                self.counted["503"] += 1
            await asyncio.sleep(PAUSE_SECONDS)
        if not answer:
            raise CutShortError
        return answer

    async def _ask(self, port: int, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(request)
            first = await reader.readexactly(1)
            try:
                head, body = await _message(reader)
            except (OSError, EOFError):
                self.counted["cut short"] += 1
                raise CutShortError from None
            return first + head + body
        finally:
            writer.close()


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """A head, and the body that it announces."""
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode("latin-1").lower().split("\r\n")
    length = next((line[15:] for line in lines if line.startswith("content-length:")), "0")
    return head, await reader.readexactly(int(length))
