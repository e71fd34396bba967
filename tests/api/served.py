"""The real doors with an intake and a Django of straw, for granian: the wire alone, without a database."""

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import orjson

from api.bridge import Bridge
from api.doors import Doors
from api.health import Health
from api.metrics import Metrics
from api.receiver import Receiver
from outbox.intake import Outcome, Submission, Verdict

MOMENT = datetime(2026, 11, 20, tzinfo=UTC)


class Intake:
    """Writes down what it accepts, one line each; the event id `slow` takes a second."""

    async def start(self) -> None:
        self._book = Path(os.environ["BOOK"]).open("ab", buffering=0)  # noqa: SIM115 (stop closes it)
        self._book.write(b"started\n")

    async def stop(self) -> None:
        self._book.write(b"stopped\n")
        self._book.close()

    async def accept(self, submission: Submission) -> Verdict:
        if submission.event_id == "slow":
            await asyncio.sleep(1)
        self._book.write(b"%s %d\n" % (submission.event_id.encode(), len(submission.body)))
        return Verdict(Outcome.ACCEPTED, UUID(int=7), MOMENT, deliveries=1, limit=5, remaining=4)


def straw(environ, start_response):
    """Tells what came in, or answers `PATH_INFO` zeros where that is a number."""
    path = environ["PATH_INFO"].strip("/")
    if path.startswith("crash"):
        raise RuntimeError("crashed as asked")
    if path.isdigit():
        start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", path)])
        return (b"0" * min(10_000, int(path) - sent) for sent in range(0, int(path), 10_000))
    told = {name: value for name, value in environ.items() if isinstance(value, str)}
    body = orjson.dumps({"environ": told, "body": environ["wsgi.input"].read().decode()})
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


intake = Intake()
receiving = Receiver(intake, most_bytes=100_000, seconds=1.0)
application = Doors(
    intake=intake,
    receiving=receiving,
    checking=Health(list),
    measuring=Metrics(receiving.answered, ask=lambda: None),
    django=Bridge(straw, threads=2, most_bytes=100_000, seconds=1.0),
)
