"""Who receives the demo's deliveries? A small server on loopback, as a client of Data Pusher would write it.

It checks every signature. One of its doors is moody, so that retries can be watched: it refuses the first
try of each event, and of every tenth the second one too, but never more than three times in a row. (Data
Pusher lets a destination that only fails rest, then tries it with one event, rarely with the same one twice.)
"""

import contextlib
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass

from aiohttp import web

from demo import keep
from demo.inbox import Inbox
from demo.signature import Verdict, check

LONGEST_REQUEST_LINE = 70_000  # a GET carries the event in its URL
LARGEST_BODY = 64 << 20
MOST_REFUSALS_IN_A_ROW = 3


@dataclass(frozen=True)
class Door:
    """A destination's end: where it listens, its signing secret, and whether it is moody, as said above."""

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
    Inbox().add_to(application.router)
    runner = web.AppRunner(
        application, access_log=None, max_line_size=LONGEST_REQUEST_LINE, shutdown_timeout=1
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, keep.HOST, port).start()
        yield
    finally:
        await runner.cleanup()


class Mood:
    """What the moody door thinks of a try."""

    def __init__(self) -> None:
        self._in_a_row = 0

    def refuses(self, event_id: str, attempt: int) -> bool:
        refused = attempt <= _refusals(event_id) and self._in_a_row < MOST_REFUSALS_IN_A_ROW
        self._in_a_row = self._in_a_row + 1 if refused else 0
        return refused


def _refusals(event_id: str) -> int:
    """How often this event is refused: by its id, whoever chose it."""
    return 2 if zlib.crc32(event_id.encode()) % 10 == 0 else 1


def _handler(
    name: str, door: Door, tell: Callable[[Arrival], None]
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    mood = Mood()

    async def handle(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        content = request.raw_path.partition("?")[2].encode() if request.method == "GET" else body
        verdict = check(door.secret, request.headers, content, now=time.time())
        event_id, attempt = request.headers.get("CL-X-EVENT-ID", ""), _attempt(request)
        if verdict is not Verdict.VALID:
            status = 401
        else:
            status = 503 if door.moody and mood.refuses(event_id, attempt) else 204
        tell(Arrival(name, request.method, event_id, attempt, verdict, status, time.monotonic()))
        return web.Response(status=status)

    return handle


def _attempt(request: web.Request) -> int:
    number = request.headers.get("CL-X-ATTEMPT", "")
    return int(number) if number.isascii() and number.isdecimal() else 1
