"""Who may send a delivery now, and what becomes of it afterwards?

    ready --claim--> leased --settle--> gone | ready again, later
                        |---release--> ready (unsent) | held
                        '---lease ends--> ready: the next claim records the interruption
    ready <--tend-- held: the destination rests (circuit open), is paused, or has too many rows ready

Each verb is one statement in autocommit: a worker that is stopped or cut off never holds a transaction open.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import orjson
import psycopg
from django.conf import settings

from eventstore.events import SCOPE
from outbox.retry import Verdict

ERASED = ("", b"")
FROM_THE_START = UUID(int=0)
LATE_COMMIT = timedelta(milliseconds=250)  # rows get their due_at before they commit: most are seen at once


class Claim(NamedTuple):
    """One attempt at one delivery, ours until its lease ends or a later fence takes it."""

    account_id: UUID
    delivery_id: UUID
    event_id: UUID
    destination_id: UUID
    attempt: int  # counts on over resends
    base: int  # attempts begun when the current schedule began
    fence: int
    lapses: int
    refusals: int
    client_event_id: str
    body: bytes

    @property
    def turn(self) -> int:
        """Which attempt of the current schedule this is, from 1."""
        return self.attempt - self.base

    @property
    def ids(self) -> dict[str, str]:
        """What every event of the delivery names."""
        return {"event": str(self.event_id), "destination": str(self.destination_id)}


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """What one claim brought. `now` (Unix seconds) comes from the database's clock.

    `more`: rows were left behind that may be claimed at once, also when this claim brought none.
    """

    claims: tuple[Claim, ...]
    now: float
    lease_seconds: float
    more: bool = False


class Settlement(NamedTuple):
    """What became of a claim. `data` is the attempt's record (see delivery.events), without secrets."""

    claim: Claim
    verdict: Verdict
    data: Mapping[str, Any]
    delay_ms: int = 0
    in_a_row: bool = True  # a failure: no other attempt at the destination succeeded while it lasted


@dataclasses.dataclass(frozen=True, slots=True)
class Tended:
    """How many held rows came back, and where the next call goes on."""

    released: int
    goes_on_after: UUID


@dataclasses.dataclass(frozen=True, slots=True)
class Marks:
    """No row due at the reading is older than `oldest`; or, if of none that was `busy`, than `oldest_free`.

    `seconds`: how long the reading took. Old marks hide nothing that the reading saw. They are only too low,
    and claims walk what died since. Nor do they hide what comes later: rows become due, and leases lapse, at
    a time that was to come; accepting, retrying, releasing and tending make a row due at their own now or
    later, and the marks are LATE_COMMIT below the reading's now. Only what takes longer than that to commit,
    or comes after the database's clock was set back, is below them, whichever drain wrote it: until the next
    reading from the start, a second later in general.

    `newcomer`: the oldest of a destination not among `under_way`, if that was asked and there is one.
    """

    oldest: datetime
    oldest_free: datetime
    busy: frozenset[UUID]
    seconds: float
    under_way: frozenset[UUID] = frozenset()
    newcomer: datetime | None = None

    def since(self, passed_over: Collection[UUID]) -> datetime:
        """Where a claim begins: at `oldest` only if it looks at one that was busy: its rows may be older.

        So a destination that is busy for ever keeps no claim low, and its rows go as soon as it has room.
        """
        return self.oldest_free if self.busy.issubset(passed_over) else self.oldest


async def find_marks(
    connection: psycopg.AsyncConnection[Any],
    *,
    busy: Collection[UUID] = (),
    under_way: Collection[UUID] | None = None,
    after: Marks | None = None,
) -> Marks:
    """Walks the dead head of the index, or only what died `after` a reading: see outbox/sql/find_marks.sql.

    What that reading did not see, such a one doesn't see either. With `under_way` (the busy among them) it
    looks for a newcomer as well, behind all that waits for those.
    """
    cursor = await connection.execute(
        "SELECT * FROM pusher.find_marks(%b, %s::uuid[], %s)",
        [list(busy), under_way if under_way is None else list(under_way), after and after.oldest],
        prepare=True,
        binary=True,
    )
    (row,) = await cursor.fetchall()
    oldest, oldest_free, newcomer, seconds = row
    return Marks(
        oldest - LATE_COMMIT,
        oldest_free - LATE_COMMIT,
        frozenset(busy),
        seconds,
        frozenset(under_way or ()),
        newcomer and newcomer - LATE_COMMIT,
    )


async def claim(
    connection: psycopg.AsyncConnection[Any],
    *,
    rows: int,
    size: int,
    busy: Collection[UUID] = (),
    since: datetime | None = None,
    suspects: bool = False,
) -> Batch:
    """Lease up to `rows` due deliveries of about `size` bytes together, none for a destination in `busy`.

    `since` (see Marks) spares the scan the index's dead head; None scans all of it. `suspects` asks for a row
    that lapsed twice, first: it comes alone, one at a time over all workers, and without asking it never
    comes. Raises psycopg.DatabaseError (DP001) after a restore that `manage.py after_restore` has not
    acknowledged.
    """
    cursor = await connection.execute(
        "SELECT * FROM pusher.claim(%s::smallint, %s, %s, %s, %b, %s, %s)",
        [SCOPE, rows, size, timedelta(seconds=settings.LEASE_SECONDS), list(busy), since, suspects],
        prepare=True,
        binary=True,
    )
    answer = await cursor.fetchall()
    more = bool(answer and answer[0][-1])
    leased = [row[:-1] for row in answer if row[0] is not None]
    if not leased:
        return Batch(claims=(), now=0.0, lease_seconds=settings.LEASE_SECONDS, more=more)
    contents = await _contents(connection, {row[2]: row[0] for row in leased})
    claimed_at = leased[0][-1]
    claims = tuple(Claim(*(*row[:-1], *contents.get(row[2], ERASED))) for row in leased)
    if erased := [claim for claim in claims if claim.event_id not in contents]:
        await settle(connection, [_without_content(claim) for claim in erased])
    return Batch(
        claims=tuple(claim for claim in claims if claim.event_id in contents),
        now=claimed_at.timestamp(),
        lease_seconds=settings.LEASE_SECONDS,
        more=more,
    )


def _without_content(claim: Claim) -> Settlement:
    """Nothing erases a payload that a delivery waits for; should it be gone, the delivery ends on record."""
    return Settlement(claim, Verdict.EXHAUSTED, claim.ids | {"reason": "payload_erased"})


async def _contents(
    connection: psycopg.AsyncConnection[Any], accounts: Mapping[UUID, UUID]
) -> dict[UUID, tuple[str, bytes]]:
    """Of each event its client's id and its bytes, once, however many deliveries. `accounts` is by event."""
    cursor = await connection.execute(
        "SELECT * FROM pusher.contents(%b, %b)",
        [list(accounts.values()), list(accounts)],
        prepare=True,
        binary=True,
    )
    return {event_id: (client_id, body) async for event_id, client_id, body in cursor}


async def settle(
    connection: psycopg.AsyncConnection[Any], settlements: Sequence[Settlement]
) -> set[tuple[UUID, int]]:
    """Record outcomes; answers (delivery id, attempt) of those that were still ours: others changed nothing.

    Repeating it is harmless: what was settled is not ours any more.
    """
    claims = [settlement.claim for settlement in settlements]
    cursor = await connection.execute(
        "SELECT * FROM pusher.settle(%s::smallint, %b, %b, %b, %b, %s, %b, %s::jsonb[], %s, %b)",
        [
            SCOPE,
            *_keys(claims),
            [settlement.verdict.value for settlement in settlements],
            [settlement.delay_ms for settlement in settlements],
            [orjson.dumps(settlement.data).decode() for settlement in settlements],
            [settlement.in_a_row for settlement in settlements],
            circuit(),
        ],
        prepare=True,
        binary=True,
    )
    return {(delivery_id, attempt) async for delivery_id, attempt in cursor}


async def release(
    connection: psycopg.AsyncConnection[Any], claims: Sequence[Claim], *, held: bool = False
) -> None:
    """Give claims back unsent; `held` keeps them away from claims until `tend` brings them back."""
    await connection.execute(
        "SELECT pusher.release(%b, %b, %b, %b, %s)", [*_keys(claims), held], prepare=True
    )


async def tend(
    connection: psycopg.AsyncConnection[Any], *, after: UUID = FROM_THE_START, since: datetime | None = None
) -> Tended:
    """Bring back held rows whose destinations are well again, and probes, of some hundred destinations."""
    cursor = await connection.execute(
        "SELECT * FROM pusher.tend(%s, %s, %s, %s)",
        [after, settings.READY_PER_DESTINATION, timedelta(seconds=settings.LEASE_SECONDS), since],
        prepare=True,
    )
    row = await cursor.fetchone()
    return Tended(*row) if row else Tended(0, FROM_THE_START)


async def crowd(
    connection: psycopg.AsyncConnection[Any],
    destination_ids: Collection[UUID],
    *,
    since: datetime | None = None,
) -> int:
    """Hold the excess of destinations that the claim passed over because they were at their cap."""
    return await _count(
        connection,
        "SELECT pusher.crowd(%b, %s, %s, %s)",
        [list(destination_ids), settings.READY_PER_DESTINATION, 5 * settings.READY_PER_DESTINATION, since],
    )


async def purge(connection: psycopg.AsyncConnection[Any], *, most: int = 500) -> int:
    """One slice of what deleted accounts and inactive destinations left waiting; 0: nothing to do now."""
    return await _count(connection, "SELECT pusher.purge(%s::smallint, %s)", [SCOPE, most])


def circuit() -> list[int]:
    """When a destination's circuit opens, and how its probes are spaced: see outbox/sql/note.sql."""
    return [
        settings.CIRCUIT_FAILURES_IN_A_ROW,
        settings.CIRCUIT_WINDOW_ATTEMPTS,
        settings.CIRCUIT_WINDOW_FAILED_PERCENT,
        settings.CIRCUIT_FIRST_PROBE_SECONDS,
        settings.CIRCUIT_LAST_PROBE_SECONDS,
    ]


def _keys(claims: Sequence[Claim]) -> tuple[list[UUID], list[UUID], list[int], list[int]]:
    return (
        [claim.account_id for claim in claims],
        [claim.delivery_id for claim in claims],
        [claim.fence for claim in claims],
        [claim.attempt for claim in claims],
    )


async def _count(connection: psycopg.AsyncConnection[Any], statement: str, parameters: list[Any]) -> int:
    row = await (await connection.execute(statement, parameters, prepare=True)).fetchone()
    return int(row[0]) if row else 0
