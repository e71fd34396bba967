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
from typing import Any
from uuid import UUID

import orjson
import psycopg
from django.conf import settings

from outbox import wake
from outbox.retry import Verdict

SCOPE = 0
CHANNEL = wake.CHANNEL  # where workers hear that something may be due
LATE_COMMIT = timedelta(milliseconds=250)  # rows get their due_at before they commit: look back this far


@dataclasses.dataclass(frozen=True, slots=True)
class Claim:
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


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """What one claim brought. `now` (Unix seconds) and `since` come from the database's clock."""

    claims: tuple[Claim, ...]
    now: float
    lease_seconds: float
    since: datetime | None


@dataclasses.dataclass(frozen=True, slots=True)
class Settlement:
    """What became of a claim. `data` is the attempt's record (see delivery.events), without secrets."""

    claim: Claim
    verdict: Verdict
    data: Mapping[str, Any]
    delay_ms: int = 0


async def claim(
    connection: psycopg.AsyncConnection[Any],
    *,
    rows: int,
    size: int,
    busy: Collection[UUID] = (),
    since: datetime | None = None,
) -> Batch:
    """Lease up to `rows` due deliveries of about `size` bytes together, none for a destination in `busy`.

    Pass the last batch's `since` back to spare the scan the index's dead head; None scans all of it, which
    every worker does at least once a second. Raises psycopg.DatabaseError (DP001) after a restore that
    `manage.py after_restore` has not acknowledged.
    """
    cursor = await connection.execute(
        "SELECT * FROM pusher.claim(%s::smallint, %s, %s, %s, %b, %s)",
        [SCOPE, rows, size, timedelta(seconds=settings.LEASE_SECONDS), list(busy), since],
        prepare=True,
        binary=True,
    )
    leased = await cursor.fetchall()
    if not leased:
        return Batch(claims=(), now=0.0, lease_seconds=settings.LEASE_SECONDS, since=since)
    contents = await _contents(connection, {row[2]: row[0] for row in leased})
    *_, claimed_at, oldest_due = leased[0]
    return Batch(
        claims=tuple(Claim(*(*row[:-2], *contents[row[2]])) for row in leased if row[2] in contents),
        now=claimed_at.timestamp(),
        lease_seconds=settings.LEASE_SECONDS,
        since=oldest_due - LATE_COMMIT,
    )


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
        "SELECT * FROM pusher.settle(%s::smallint, %b, %b, %b, %b, %s, %b, %s::jsonb[], %b)",
        [
            SCOPE,
            *_keys(claims),
            [settlement.verdict.value for settlement in settlements],
            [settlement.delay_ms for settlement in settlements],
            [orjson.dumps(settlement.data).decode() for settlement in settlements],
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


async def tend(connection: psycopg.AsyncConnection[Any]) -> int:
    """Bring back held rows whose destinations are well again, and probes; answers how many."""
    return await _count(
        connection,
        "SELECT pusher.tend(%s, %s)",
        [settings.READY_PER_DESTINATION, timedelta(seconds=settings.LEASE_SECONDS)],
    )


async def crowd(connection: psycopg.AsyncConnection[Any], destination_ids: Collection[UUID]) -> int:
    """Hold the excess of destinations that the claim passed over because they were at their cap."""
    return await _count(
        connection,
        "SELECT pusher.crowd(%b, %s, %s)",
        [list(destination_ids), settings.READY_PER_DESTINATION, 5 * settings.READY_PER_DESTINATION],
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
