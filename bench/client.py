"""How fast is the HTTP client alone? The floor of delivering: its requests and nothing else.

The wire is the product's (httpx over aiohttp on uvloop, without httpx's client), used plainly, in as many
loops as one drain has requests under way. No address is guarded, nothing is signed, nothing written down. A
process for each drain (`python -m bench.client`); the rate is what the receiver saw.
"""

import asyncio
import contextlib
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import aiohttp
import httpx
import uvloop
from httpx_aiohttp import AiohttpTransport

from bench import steady
from bench.receiver import Receiver
from bench.run import Wrong

CONCURRENCY = 128  # the default of DRAIN_CONCURRENCY
BODY_BYTES = 1024
PATHS = 20
SIGNATURE = "v1," + 43 * "A" + "="

Wire = Literal["httpx", "aiohttp"]  # aiohttp: its own client, without httpx's vocabulary
type Post = Callable[[int], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class Bare:
    """`rate`: requests per second; `cpu`: microseconds of the client's CPU for each."""

    rate: float
    cpu: float


def measure(
    receiver: Receiver,
    *,
    seconds: float,
    processes: int = 1,
    body_bytes: int = BODY_BYTES,
    wire: Wire = "httpx",
) -> Bare:
    """What so many processes send together. The receiver forgets what it saw before, and all of this."""
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(_start(receiver.url, seconds, body_bytes, wire)) for _ in range(processes)
        ]
        for client in clients:
            _line(client)  # it is ready
        receiver.reset()
        for client in clients:
            assert client.stdin is not None  # noqa: S101 - for the type checker
            client.stdin.write("go\n")
            client.stdin.flush()
        told = [json.loads(_line(client)) for client in clients]
    moments = [sighting.at_ns for sighting in receiver.sightings()]
    receiver.reset()
    requests = sum(one["requests"] for one in told)
    if len(moments) != requests:
        raise Wrong(f"the bare client sent {requests} requests, {len(moments)} were seen")
    return Bare(rate=steady.rate(moments), cpu=sum(one["cpu_seconds"] for one in told) * 1e6 / requests)


def _start(url: str, seconds: float, body_bytes: int, wire: Wire) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "bench.client", url, str(seconds), str(body_bytes), wire],
        cwd=Path(__file__).resolve().parent.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _line(client: subprocess.Popen[str]) -> str:
    assert client.stdout is not None  # noqa: S101 - for the type checker
    line = client.stdout.readline()
    if not line:
        raise Wrong(f"the bare client ended with status {client.wait()}")
    return line


# --- the process -------------------------------------------------------------------------------------------


def headers(number: int) -> dict[str, str]:
    """As many, and as long, as a delivery has."""
    return {
        "webhook-id": f"00000000-0000-8000-8000-{number:012d}",
        "webhook-timestamp": "1700000000",
        "webhook-signature": SIGNATURE,
        "CL-X-EVENT-ID": f"bare-{number:09d}",
        "CL-X-ATTEMPT": "1",
        "Content-Type": "application/json",
        "User-Agent": "DataPusher/1",
        "Accept-Encoding": "identity",
    }


def _by_httpx(session: aiohttp.ClientSession, url: str, body: bytes) -> Post:
    wire = AiohttpTransport(client=session)

    async def post(number: int) -> int:
        request = httpx.Request("POST", f"{url}/{number % PATHS}", headers=headers(number), content=body)
        response = await wire.handle_async_request(request)
        await response.aread()
        return response.status_code

    return post


def _by_aiohttp(session: aiohttp.ClientSession, url: str, body: bytes) -> Post:
    async def post(number: int) -> int:
        async with session.post(f"{url}/{number % PATHS}", headers=headers(number), data=body) as response:
            await response.read()
            return response.status

    return post


async def _send(url: str, seconds: float, body_bytes: int, wire: Wire) -> None:
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        timeout=aiohttp.ClientTimeout(total=None),
    )
    body = json.dumps({"filler": (body_bytes - 14) * "x"}).encode()
    make = _by_httpx if wire == "httpx" else _by_aiohttp
    async with session:
        post = make(session, url, body)
        print("ready", flush=True)
        sys.stdin.readline()
        numbers = itertools.count()
        began = time.process_time()
        until = time.monotonic() + seconds
        await asyncio.gather(*(_post_on(post, numbers, until) for _ in range(CONCURRENCY)))
        cpu_seconds = time.process_time() - began
    print(json.dumps({"requests": next(numbers), "cpu_seconds": cpu_seconds}), flush=True)


async def _post_on(post: Post, numbers: Iterator[int], until: float) -> None:
    while time.monotonic() < until:
        status = await post(next(numbers))
        if status != 200:
            raise Wrong(f"the receiver answered {status}")


if __name__ == "__main__":
    where, how_long, how_large, how = sys.argv[1:]
    uvloop.run(_send(where, float(how_long), int(how_large), "httpx" if how == "httpx" else "aiohttp"))
