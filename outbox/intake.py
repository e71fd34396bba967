"""How does an event get in? What arrives while a commit is under way shares the next one.

Each submission waits for its own verdict; a batch is one call of `pusher.accept`: one transaction, one round
trip. A batch whose outcome is unknown (connection lost, time over) is never sent again by us: its items are
told `unavailable`, and the client's repost of the same event id finds out what happened.
"""

import asyncio
import collections
import contextlib
import dataclasses
import enum
import hashlib
import logging
import os
import random
import time
from datetime import datetime
from typing import Any, NamedTuple, Protocol
from uuid import UUID

import psycopg
from psycopg import errors

from config import told
from eventstore.events import SCOPE
from eventstore.identifiers import uuid7
from outbox import wake
from outbox.lines import Connection, Line

BATCH_ITEMS = 256
BATCH_BUSY_ITEMS = 64  # of them, items whose gate was taken: one stuck account must not fill the batches
BATCH_BYTES = 4 << 20
PATIENCE_SECONDS = 2.0  # for the database, and for an account's gate
STATEMENT_MS = 1_800
BUSY_PAUSE_SECONDS = 0.004
PACE_SECONDS = 0.02  # from call to call: each has a price of its own, so those who come together share it
SALT_BYTES = 16
ATTEMPTS_AT_CONFLICT = 4

log = logging.getLogger(__name__)

_ACCEPT = "SELECT * FROM pusher.accept(%s::smallint, %s, %b, %s, %b, %b, %b, %b)"


class Outcome(enum.StrEnum):
    """What became of a submission."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    LIMITED = "limited"
    UNAUTHENTICATED = "unauthenticated"
    UNAVAILABLE = "unavailable"


class Token(Protocol):
    """A presented secret token, parsed: its public key id and the SHA-256 of the whole."""

    @property
    def key_id(self) -> str: ...
    @property
    def digest(self) -> bytes: ...


class Submission(NamedTuple):
    """One event as a client posted it: checked JSON, in the very bytes that came in."""

    token: Token
    event_id: str
    body: bytes


class Verdict(NamedTuple):
    """The answer to one submission. Times are the database's (UTC), delays in milliseconds."""

    outcome: Outcome
    event: UUID | None = None
    received_at: datetime | None = None
    deliveries: int = 0
    limit: int = 0
    remaining: int = 0
    retry_after_ms: int = 0


UNAVAILABLE = Verdict(Outcome.UNAVAILABLE, retry_after_ms=1000)


@dataclasses.dataclass(eq=False, slots=True)
class _Item:
    submission: Submission
    verdict: asyncio.Future[Verdict]
    deadline: float
    # An event's id and salt are made once: a batch that is tried again after a rollback repeats them.
    event: UUID
    salt: bytes = b""

    def answer(self, verdict: Verdict) -> None:
        if not self.verdict.done():
            self.verdict.set_result(verdict)


def _salt(batch: list[_Item]) -> None:
    """Randomness for all at one go: a system call for each item costs more than the rest of its record."""
    fresh = [item for item in batch if not item.salt]
    random_bytes = os.urandom(SALT_BYTES * len(fresh))
    for place, item in enumerate(fresh):
        item.salt = random_bytes[place * SALT_BYTES : (place + 1) * SALT_BYTES]


async def _accept(connection: Connection, parameters: list[Any]) -> list[tuple[Any, ...]]:
    cursor = await connection.execute(_ACCEPT, parameters, prepare=True, binary=True)
    return await cursor.fetchall()


class Intake:
    """One connection to the database, and the queue before it: `start`, `accept` from any task, `stop`."""

    def __init__(self) -> None:
        self._waiting: collections.deque[_Item] = collections.deque()
        self._busy: collections.deque[_Item] = collections.deque()
        self._under_way: list[_Item] = []
        self._arrived = asyncio.Event()
        self._enough = asyncio.Event()  # as many wait as a batch had the last time
        self._most = 0
        self._stopping = False
        self._line = Line("intake", statement_timeout_ms=STATEMENT_MS)
        self._waker = wake.Waker()
        self._tasks: list[asyncio.Task[None]] = []
        self._complained = 0.0

    async def start(self) -> None:
        """Begin to serve; the database may still be away (submissions are then told so within 2 s)."""
        self._tasks = [asyncio.create_task(self._serve()), asyncio.create_task(self._expire())]
        await self._waker.start()

    async def stop(self) -> None:
        """Refuse what still waits, finish the commit that is under way, close."""
        self._stopping = True
        self._arrived.set()
        self._enough.set()
        serving, expiring = self._tasks
        await asyncio.wait([serving], timeout=PATIENCE_SECONDS)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(serving, expiring, return_exceptions=True)
        self._refuse_waiting()
        await self._waker.stop()
        await self._line.close()

    async def accept(self, submission: Submission) -> Verdict:
        """Store one event with its deliveries; an accepted or duplicate verdict means: on disk."""
        if self._stopping:
            return UNAVAILABLE
        deadline = time.monotonic() + PATIENCE_SECONDS
        item = _Item(submission, asyncio.get_running_loop().create_future(), deadline, uuid7())
        self._waiting.append(item)
        self._arrived.set()
        if len(self._waiting) >= self._most:
            self._enough.set()
        return await item.verdict

    async def _serve(self) -> None:
        while not self._stopping:
            await self._arrived.wait()
            self._arrived.clear()
            while not self._stopping and (batch := self._next_batch()):
                began = time.monotonic()
                _salt(batch)
                self._under_way = batch
                try:
                    self._come_again(await self._call(batch))
                except Exception:
                    log.exception("accepting a batch failed")
                    for item in batch:
                        item.answer(UNAVAILABLE)
                self._under_way = []
                if len(batch) > 1:
                    await self._gather(len(batch), began + PACE_SECONDS)

    async def _gather(self, many: int, until: float) -> None:
        """Wait until as many have come as the last time: those who were just answered come again."""
        self._most, self._enough = many, asyncio.Event()
        if len(self._waiting) < many and (left := until - time.monotonic()) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._enough.wait()

    async def _expire(self) -> None:
        """Tell those whose time is over, in the queue or in a batch that the database keeps: 2 s at most."""
        while True:
            await asyncio.sleep(0.05)
            now = time.monotonic()
            while self._waiting and self._waiting[0].deadline <= now:
                self._waiting.popleft().answer(UNAVAILABLE)
            for item in (*self._busy, *self._under_way):
                if item.deadline <= now:
                    item.answer(UNAVAILABLE)

    def _next_batch(self) -> list[_Item]:
        batch: list[_Item] = []
        size = 0
        for queue, most in ((self._busy, BATCH_BUSY_ITEMS), (self._waiting, BATCH_ITEMS)):
            while queue and len(batch) < most:
                size += len(queue[0].submission.body)
                if batch and size > BATCH_BYTES:
                    return batch
                item = queue.popleft()
                if not item.verdict.done():  # the client has gone, or its time is over
                    batch.append(item)
        return batch

    def _come_again(self, busy: list[_Item]) -> None:
        """Items whose gate another session holds wait a moment, and then take a small part of each batch."""
        if busy:
            asyncio.get_running_loop().call_later(BUSY_PAUSE_SECONDS, self._requeue, busy)

    def _requeue(self, busy: list[_Item]) -> None:
        self._busy.extend(busy)
        self._arrived.set()
        if self._stopping:
            self._refuse_waiting()

    def _refuse_waiting(self) -> None:
        for queue in (self._busy, self._waiting):
            while queue:
                queue.popleft().answer(UNAVAILABLE)

    async def _call(self, batch: list[_Item]) -> list[_Item]:
        """Call the database; answer each item but those whose gate is busy, which are returned.

        What rolled back for certain is tried again: at once where sessions collided, in halves where one
        item's content is to blame, so that it stands alone and its neighbours get in.
        """
        for _ in range(ATTEMPTS_AT_CONFLICT):
            try:
                return self._answer(batch, await self._execute(batch))
            except (errors.SerializationFailure, errors.DeadlockDetected, errors.LockNotAvailable):
                await asyncio.sleep(random.uniform(0, 0.01))  # noqa: S311 (spreads collisions, guards nothing)
            except (errors.DataError, errors.IntegrityError) as error:
                if len(batch) > 1:
                    half = len(batch) // 2
                    return [*await self._call(batch[:half]), *await self._call(batch[half:])]
                log.error("one item was refused by the database: %s", type(error).__name__)  # noqa: TRY400
                break
            except (psycopg.Error, OSError, TimeoutError) as error:
                self._complain(error)
                break
        for item in batch:
            item.answer(UNAVAILABLE)
        return []

    async def _execute(self, batch: list[_Item]) -> list[tuple[Any, ...]]:
        submissions = [item.submission for item in batch]
        parameters = [
            SCOPE,
            [submission.token.key_id for submission in submissions],
            [submission.token.digest for submission in submissions],
            [submission.event_id for submission in submissions],
            [submission.body for submission in submissions],
            [item.salt for item in batch],
            [hashlib.sha256(item.salt + item.submission.body).digest() for item in batch],
            [item.event for item in batch],
        ]
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self._line.run(lambda connection: _accept(connection, parameters))

    def _answer(self, batch: list[_Item], rows: list[tuple[Any, ...]]) -> list[_Item]:
        busy: list[_Item] = []
        fanned_out = False
        for item, (outcome, event, received_at, deliveries, limit, remaining, retry_after) in zip(
            batch, rows, strict=True
        ):
            if outcome == "busy":
                busy.append(item)
                continue
            fanned_out = fanned_out or outcome == "accepted"
            verdict = Verdict(
                Outcome(outcome),
                event,
                received_at,
                deliveries or 0,
                limit or 0,
                remaining or 0,
                retry_after or 0,
            )
            item.answer(verdict)
        if fanned_out:
            self._waker.wake()
        return busy

    def _complain(self, error: BaseException) -> None:
        """Once a second at most: while the database is away, every batch ends here."""
        if time.monotonic() - self._complained >= 1:
            self._complained = time.monotonic()
            log.warning("the database does not accept: %s", told.words(error))
