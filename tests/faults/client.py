"""What was the client told? It posts events over many connections and writes every answer down.

As a real client would, it sends the same again when it got no answer (or 503): such an event is neither
accepted nor refused until an answer comes.
"""

import asyncio
import collections
import hashlib
import json
import random
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ANSWER_SECONDS = 10.0
OUTCOMES = {202: "acknowledged", 200: "duplicate", 503: "unknown"}


@dataclass(frozen=True)
class Post:
    event_id: str
    body: bytes


def posts(prefix: str, count: int, rng: random.Random) -> Iterator[Post]:
    """Ids that are used once, and bodies of some 50 to 2,000 bytes."""
    for number in range(count):
        filler = "x" * int(rng.paretovariate(1.2) * 30 % 2000)
        yield Post(
            f"{prefix}-{number:06}", json.dumps({"n": number, "of": prefix, "filler": filler}).encode()
        )


class Load:
    """Posts in a thread. `rate` per second over all connections; `token` may be replaced while it runs."""

    def __init__(
        self,
        url: str,
        *,
        account: str,
        token: str,
        posts: Iterable[Post],
        ledger: Path,
        rate: float = 200,
        connections: int = 16,
        patience: float = 90,
    ) -> None:
        self.token = token
        self.ledger = ledger
        self._address = urlsplit(url)
        self._account = account
        self._posts = collections.deque(posts)
        self._rate = rate
        self._connections = connections
        self._patience = patience
        self.total = len(self._posts)
        self.done = 0
        self.unanswered: list[str] = []
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)
        self._failure: BaseException | None = None

    def start(self) -> "Load":
        self._thread.start()
        return self

    @property
    def progress(self) -> float:
        return self.done / self.total

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        """No further events; those under way get their answers."""
        self._posts.clear()

    def wait(self) -> None:
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            with self.ledger.open("a") as self._out:
                asyncio.run(self._post_all())
        except BaseException as error:  # noqa: BLE001 - told to whoever waits
            self._failure = error

    async def _post_all(self) -> None:
        self._turn = time.monotonic()
        await asyncio.gather(*(self._work() for _ in range(self._connections)))

    async def _work(self) -> None:
        wire = Wire(self._address.hostname, self._address.port)
        while self._posts:
            post = self._posts.popleft()
            self._turn = max(self._turn + 1 / self._rate, time.monotonic() - 0.5)
            await asyncio.sleep(max(0.0, self._turn - time.monotonic()))
            if not await self._until_answered(wire, post):
                self.unanswered.append(post.event_id)
            self.done += 1
        wire.close()

    async def _until_answered(self, wire: "Wire", post: Post) -> bool:
        deadline, pause = time.monotonic() + self._patience, 0.05
        while time.monotonic() < deadline:
            outcome, wait = await self._send(wire, post)
            if outcome in {"acknowledged", "duplicate"} or (outcome == "refused" and not wait):
                return True
            await asyncio.sleep(wait or pause)
            pause = min(2 * pause, 1.0)
        return False

    async def _send(self, wire: "Wire", post: Post) -> tuple[str, float]:
        """The outcome, and how long to wait before the same is sent again (0: our own pace)."""
        sent_at = time.time()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await wire.open()
        except (OSError, TimeoutError):
            return "unsent", 0
        status, headers, content = None, {}, {}
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                status, headers, body = await wire.ask(self._request(post), post.body)
            content = json.loads(body)
        except (OSError, EOFError, TimeoutError, ValueError):
            wire.close()
        outcome = OUTCOMES.get(status, "unknown" if status is None or status >= 500 else "refused")
        self._note(post, outcome, status, (content.get("event") or {}).get("id"), sent_at)
        return outcome, float(headers.get("retry-after", 1)) if status == 429 else 0

    def _request(self, post: Post) -> str:
        return (
            f"POST /server/incoming_data HTTP/1.1\r\nHost: {self._address.netloc}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(post.body)}\r\n"
            f"CL-X-TOKEN: {self.token}\r\nCL-X-EVENT-ID: {post.event_id}\r\n\r\n"
        )

    def _note(self, post: Post, outcome: str, status: int | None, event: str | None, sent_at: float) -> None:
        line = {
            "event_id": post.event_id,
            "account": self._account,
            "sha256": hashlib.sha256(post.body).hexdigest(),
            "size": len(post.body),
            "outcome": outcome,
            "status": status,
            "event": event,
            "sent_at": sent_at,
            "answered_at": time.time() if status is not None else None,
        }
        self._out.write(json.dumps(line) + "\n")
        self._out.flush()


class Wire:
    """One kept-alive connection, opened when it is needed."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._writer: asyncio.StreamWriter | None = None

    async def open(self) -> None:
        if self._writer is None or self._reader.at_eof():
            self.close()
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port)

    async def ask(self, head: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        self._writer.write(head.encode() + body)
        first, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        content = await self._reader.readexactly(int(headers.get("content-length", "0")))
        if headers.get("connection") == "close":
            self.close()
        return int(first.split()[1]), headers, content

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def read_ledger(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def acknowledged(lines: Iterable[dict[str, Any]]) -> set[str]:
    return {line["event_id"] for line in lines if line["outcome"] in {"acknowledged", "duplicate"}}
