"""Who receives the demo's deliveries? A small server on loopback, as a client of Data Pusher would write it.

It checks every signature, and one of its doors is moody: it refuses the first try of each event, and of every
tenth event the second one too, so that retries can be watched.
"""

import contextlib
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass

from aiohttp import web

from demo import keep
from demo.signature import Verdict, check

LONGEST_REQUEST_LINE = 70_000  # a GET carries the event in its URL
LARGEST_BODY = 64 << 20


@dataclass(frozen=True)
class Door:
    """A destination's end: `path` is where it listens, `secret` the signing secret, `moody` as said above."""

    path: str
    secret: str
    moody: bool = False


@dataclass(frozen=True)
class Arrival:
    """One request that arrived at a door, and what it was answered."""

    door: str
    method: str
    event_id: str
    attempt: int
    verdict: Verdict
    status: int
    at: float


@contextlib.asynccontextmanager
async def receiving(
    port: int, doors: Mapping[str, Door], tell: Callable[[Arrival], None]
) -> AsyncIterator[None]:
    """Listens on loopback for as long as the context lasts, and tells of every arrival."""
    application = web.Application(client_max_size=LARGEST_BODY)
    for name, door in doors.items():
        application.router.add_route("*", door.path, _handler(name, door, tell))
    runner = web.AppRunner(
        application, access_log=None, max_line_size=LONGEST_REQUEST_LINE, shutdown_timeout=1
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, keep.HOST, port).start()
        yield
    finally:
        await runner.cleanup()


def refusals(event_id: str) -> int:
    """How often the moody door refuses this event: once, every tenth twice (by its id, whoever chose it)."""
    return 2 if zlib.crc32(event_id.encode()) % 10 == 0 else 1


def _handler(
    name: str, door: Door, tell: Callable[[Arrival], None]
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        content = request.raw_path.partition("?")[2].encode() if request.method == "GET" else body
        verdict = check(door.secret, request.headers, content, now=time.time())
        event_id, attempt = request.headers.get("CL-X-EVENT-ID", ""), _attempt(request)
        status = _answer(door, verdict, event_id, attempt)
        tell(Arrival(name, request.method, event_id, attempt, verdict, status, time.monotonic()))
        return web.Response(status=status)

    return handle


def _attempt(request: web.Request) -> int:
    number = request.headers.get("CL-X-ATTEMPT", "")
    return int(number) if number.isascii() and number.isdecimal() else 1


def _answer(door: Door, verdict: Verdict, event_id: str, attempt: int) -> int:
    if verdict is not Verdict.VALID:
        return 401
    if door.moody and attempt <= refusals(event_id):
        return 503
    return 204
