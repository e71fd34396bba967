"""How does a client post its events? One after another, not faster than it may, again when told to."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import orjson

EVENTS = Path(__file__).resolve().parent / "data" / "github-events.ndjson"
PATH = "/server/incoming_data"
PATIENCE_SECONDS = 1.0


@dataclass(frozen=True)
class Event:
    """`body`: exactly what is posted; `kind`: GitHub's name for it, for people to read."""

    event_id: str
    kind: str
    body: bytes


@dataclass(frozen=True)
class Accepted:
    """A 2xx; `deliveries`: how many will be made."""

    event: Event
    deliveries: int
    received_timestamp: str


@dataclass(frozen=True)
class Waiting:
    """Not taken yet: the same event is posted again after so many seconds."""

    event: Event
    reason: str
    seconds: float


@dataclass(frozen=True)
class Refused:
    """Not taken, and posting it again would not help."""

    event: Event
    reason: str


def events(run: str, path: Path = EVENTS) -> Iterator[Event]:
    """The shipped payloads in their order, with ids that no other run has."""
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        row = orjson.loads(line)
        yield Event(f"{run}-{number:03}", row["type"], orjson.dumps(row["payload"]))


async def feed(
    client: httpx.AsyncClient,
    items: Iterable[Event],
    *,
    token: str,
    per_second: float,
    posting: Callable[[Event], None],
) -> AsyncIterator[Accepted | Waiting | Refused]:
    """Posts each event until it is taken or refused; tells of every post before, of every answer after it."""
    due = time.monotonic()
    for event in items:
        while True:
            await asyncio.sleep(due - time.monotonic())
            posting(event)
            happened = await _post(client, token, event)
            # From the answer on: it was counted somewhere before, so a slow one is not followed by a bunch.
            due = time.monotonic() + 1 / per_second
            yield happened
            if not isinstance(happened, Waiting):
                break
            due = max(due, time.monotonic() + happened.seconds)


async def _post(client: httpx.AsyncClient, token: str, event: Event) -> Accepted | Waiting | Refused:
    headers = {"CL-X-TOKEN": token, "CL-X-EVENT-ID": event.event_id, "Content-Type": "application/json"}
    try:
        answer = await client.post(PATH, content=event.body, headers=headers)
    except httpx.TransportError as error:
        # The outcome is unknown; posting the same id again is how a client finds out.
        return Waiting(event, type(error).__name__, PATIENCE_SECONDS)
    if answer.is_success:
        taken = answer.json()["event"]
        return Accepted(event, taken["deliveries"], taken["received_timestamp"])
    if answer.status_code in {429, 503}:
        return Waiting(event, str(answer.status_code), _seconds(answer.headers.get("Retry-After", "")))
    return Refused(event, f"{answer.status_code} {answer.text[:80]}")


def _seconds(retry_after: str) -> float:
    return float(retry_after) if retry_after.isascii() and retry_after.isdecimal() else PATIENCE_SECONDS
