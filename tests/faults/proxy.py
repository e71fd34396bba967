"""What if the network between us and PostgreSQL fails? A small TCP proxy before its socket, in a thread."""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Self

PIECE = 1 << 16


class Proxy:
    """Passes bytes on. `latency` (seconds) and `slow` (bytes a second) may change while it runs."""

    def __init__(self, target: str) -> None:
        self._target = target
        self.latency = 0.0
        self.slow = 0
        self._pairs: set[_Pair] = set()
        self._black = asyncio.Event()  # set: bytes flow; clear: a black hole
        self._cut_on: tuple[bytes, int] | None = None
        self.cut = 0
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._end())
        self._thread.join(10)

    # --- what is done to the connections ---

    def reset_all(self) -> int:
        """Every connection at once, on both sides; says how many."""
        return self._call(self._reset_all())

    def reset_on(self, statement: bytes, *, times: int = 1) -> None:
        """Reset the next connections on which the client sends this, after the server got it.

        The server commits; the client never hears whether it did.
        """
        self._cut_on = (statement, times)

    def black_hole(self, on: bool) -> None:
        """Nothing passes, nothing is closed: as when a firewall drops packets."""
        self._call(self._set_black(on))

    # --- in the thread ---

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        self._black.set()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0, limit=PIECE)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        await self._reset_all()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            theirs = await asyncio.open_unix_connection(self._target)
        except OSError:  # the server is away
            writer.transport.abort()
            return
        pair = _Pair(writer, theirs[1])
        self._pairs.add(pair)
        tasks = [
            asyncio.create_task(self._pass_on(reader, theirs[1], pair, self._sent)),
            asyncio.create_task(self._pass_on(theirs[0], writer, pair, _nothing)),
        ]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._pairs.discard(pair)
        pair.end()

    async def _pass_on(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        pair: "_Pair",
        seen: Callable[[bytes, "_Pair"], Awaitable[None]],
    ) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(PIECE):
                await self._black.wait()
                await asyncio.sleep(self.latency)
                for piece in self._pieces(chunk):
                    writer.write(piece)
                    await writer.drain()
                    if self.slow:
                        await asyncio.sleep(len(piece) / self.slow)
                await seen(chunk, pair)

    def _pieces(self, chunk: bytes) -> list[bytes]:
        size = max(1, self.slow // 20) if self.slow else len(chunk)
        return [chunk[start : start + size] for start in range(0, len(chunk), size)]

    async def _sent(self, chunk: bytes, pair: "_Pair") -> None:
        if self._cut_on is None or self._cut_on[0] not in chunk:
            return
        statement, times = self._cut_on
        self._cut_on = (statement, times - 1) if times > 1 else None
        self.cut += 1
        pair.reset()

    async def _reset_all(self) -> int:
        pairs = list(self._pairs)
        for pair in pairs:
            pair.reset()
        return len(pairs)

    async def _set_black(self, on: bool) -> None:
        if on:
            self._black.clear()
        else:
            self._black.set()

    async def _end(self) -> None:
        self._black.set()
        self._stop.set()

    def _call[T](self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)


class _Pair:
    """Both ends of one connection."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self._client, self._server = client, server

    def reset(self) -> None:
        """The client hears of it at once; the server finishes what it was told, as over a network."""
        now = struct.pack("ii", 1, 0)  # with a RST instead of a good-bye
        self._client.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, now)
        self._client.transport.abort()
        self._server.close()

    def end(self) -> None:
        self._client.close()
        self._server.close()


async def _nothing(_chunk: bytes, _pair: _Pair) -> None:
    pass
