"""What did the destinations really see? A black box in a process of its own: whatever is killed, it goes on.

It knows nothing of the product but its published contract: it checks signatures by the text of Standard
Webhooks 1.0, and writes each request down as a line of JSON when its exchange is over. `Control` is how the
harness speaks with it: by requests to `/-/`.
"""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import http.client
import json
import os
import random
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from config.supervisor import LEASH

BASE = Path(__file__).resolve().parents[2]
LINE_LIMIT = 1 << 20


@dataclass
class Behaviour:
    """How requests to a path are answered: after `delay` seconds (from, to); `hold`: not yet."""

    status: int = 200
    delay: tuple[float, float] = (0.0, 0.02)
    hold: bool = False
    reset: float = 0.0  # the share of requests whose connection is reset after they were read
    body: bytes = b"ok"


@dataclass
class BlackBox:
    out: Any
    random: random.Random
    secrets: dict[str, list[bytes]] = field(default_factory=dict)
    behaviours: dict[str, Behaviour] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    seen: int = 0
    held: set[int] = field(default_factory=set)  # the other sides' ports

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await self.exchange(reader, writer)
        except (OSError, EOFError, asyncio.LimitOverrunError):
            pass  # the other side went away, or was killed
        finally:
            writer.close()

    async def exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
        method, target, _ = first.split(" ")
        pairs = [line.partition(":") for line in lines]
        headers = {name.lower(): value.strip(" \t") for name, _, value in pairs}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        if target.startswith("/-/"):
            writer.write(_answer(200, json.dumps(self.obey(json.loads(body or b"{}"))).encode()))
            return
        sighting = self.sighting(method, target, headers, body)
        answer = await self.prepare(sighting["destination"], writer.get_extra_info("peername")[1])
        if answer is not None and not writer.transport.is_closing():
            sighting["status"] = answer.status
        # Before the answer: who has been answered has been seen.
        self.out.write(json.dumps(sighting) + "\n")
        self.out.flush()
        if answer is None:
            writer.transport.abort()
            raise ConnectionResetError
        writer.write(_answer(answer.status, answer.body))
        await writer.drain()

    async def prepare(self, path: str, port: int) -> Behaviour | None:
        """How to answer, when it is time; None: by a reset."""
        behaviour = self.behaviour(path)
        if behaviour.hold:
            self.held.add(port)
            while (behaviour := self.behaviour(path)).hold:
                await self.changed.wait()
            self.held.discard(port)
        if self.random.random() < behaviour.reset:
            return None
        await asyncio.sleep(self.random.uniform(*behaviour.delay))
        return behaviour

    def behaviour(self, path: str) -> Behaviour:
        return self.behaviours.get(path) or self.behaviours.get("*") or Behaviour()

    def sighting(self, method: str, target: str, headers: dict[str, str], body: bytes) -> dict[str, Any]:
        self.seen += 1
        path, _, query = target.partition("?")
        return {
            "at": time.time(),
            "destination": path,
            "delivery_id": headers.get("webhook-id"),
            "attempt": int(headers.get("cl-x-attempt", "0")),
            "event_id": headers.get("cl-x-event-id"),
            "sha256": hashlib.sha256(body).hexdigest(),
            "signed": self.is_signed(path, headers, query.encode() if method == "GET" else body),
            "status": None,
            "method": method,
        }

    def is_signed(self, path: str, headers: dict[str, str], content: bytes) -> bool | None:
        """None: nobody told us this destination's secret."""
        if path not in self.secrets:
            return None
        signed = b".".join(
            (headers.get("webhook-id", "").encode(), headers.get("webhook-timestamp", "").encode(), content)
        )
        right = {
            "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
            for key in self.secrets[path]
        }
        fresh = abs(time.time() - int(headers.get("webhook-timestamp") or 0)) < 300
        return fresh and bool(right & set(headers.get("webhook-signature", "").split()))

    def obey(self, wish: dict[str, Any]) -> dict[str, Any]:
        for path, secrets in wish.get("secrets", {}).items():
            self.secrets[path] = [base64.b64decode(one.removeprefix("whsec_")) for one in secrets]
        for path, behaviour in wish.get("behaviours", {}).items():
            self.behaviours[path] = Behaviour(**behaviour)
        if wish:
            self.changed.set()
            self.changed = asyncio.Event()
        return {"seen": self.seen, "held": len(self.held), "ports": sorted(self.held)}


def _answer(status: int, body: bytes) -> bytes:
    return b"HTTP/1.1 %d Said\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


class Control:
    """The receiver's process, seen from the harness."""

    def __init__(self, sightings: Path, *, seed: int = 0) -> None:
        self.sightings_file = sightings
        self._seed = seed

    def __enter__(self) -> Self:
        with contextlib.closing(socket.create_server(("127.0.0.1", 0), backlog=1024)) as listening:
            self.port = listening.getsockname()[1]
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-S", "-E", "-c", LEASH, str(os.getpid())),
                    *(sys.executable, "-m", "tests.faults.receiver"),
                    *(str(listening.fileno()), str(self.sightings_file), str(self._seed)),
                ],
                cwd=BASE,
                pass_fds=[listening.fileno()],
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def know(self, url: str, *secrets: str) -> None:
        """The signing secrets of the destination at this URL."""
        self.tell(secrets={urlsplit(url).path: secrets})

    def behave(self, path: str = "*", **behaviour: Any) -> None:
        """As `Behaviour` from now on; without any: well."""
        self.tell(behaviours={path: behaviour})

    @property
    def held(self) -> int:
        return self.tell()["held"]

    @property
    def seen(self) -> int:
        return self.tell()["seen"]

    @property
    def held_ports(self) -> set[int]:
        """From which ports the requests came that are not answered yet."""
        return set(self.tell()["ports"])

    def tell(self, **wish: Any) -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("POST", "/-/", json.dumps(wish))
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def sightings(self) -> list[dict[str, Any]]:
        if not self.sightings_file.exists():
            return []
        return [json.loads(line) for line in self.sightings_file.read_text().splitlines()]


async def _serve(listening: socket.socket, out: Any, seed: int) -> None:
    box = BlackBox(out, random.Random(seed))
    server = await asyncio.start_server(box.connected, sock=listening, limit=LINE_LIMIT)
    await server.serve_forever()


if __name__ == "__main__":
    descriptor, file, seed = sys.argv[1:]
    with Path(file).open("a") as out, contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(socket.socket(fileno=int(descriptor)), out, int(seed)))
