"""How does an outbox get full in seconds? By `pusher.accept` itself, without HTTP before it.

What the receiver calls for events that came in together is called here with as many as it takes at most:
rows, history and commits are those of accepting. The events of one call go round the accounts, as the traffic
of many clients does. A call locks its accounts' gates, so each connection has accounts of its own.
"""

import functools
import hashlib
import itertools
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import psycopg

from accounts.tokens import PresentedToken, parse
from bench.deployment import Account, Deployment
from bench.load import Acknowledged
from bench.run import Wrong
from eventstore.identifiers import uuid7

BATCH = 256  # the most that the receiver shares a commit among (outbox.intake)
SCOPE = 0
SALT_BYTES = 16
BODY_BYTES = 1024
ACCEPT = "SELECT outcome FROM pusher.accept(%s::smallint, %s, %b, %s, %b, %b, %b, %b)"

type Item = tuple[str, PresentedToken]  # the client's id of an event, and whose it is


@dataclass(frozen=True, slots=True)
class Filled:
    """What was acknowledged, and how many destinations each of the events goes to."""

    acknowledged: list[Acknowledged]
    destinations: int

    @property
    def rows(self) -> int:
        return len(self.acknowledged) * self.destinations


def fill(
    deployment: Deployment,
    accounts: Sequence[Account],
    *,
    events: int,
    prefix: str,
    body_bytes: int = BODY_BYTES,
    connections: int = 2,
) -> Filled:
    """Accept so many events, in turn for each account (which have as many destinations each, all active).

    Their ids begin with `prefix`, which must be new.
    """
    presented = [_presented(account) for account in accounts]
    shares: list[list[Item]] = [[] for _ in range(connections)]
    for number in range(events):
        place = number % len(accounts)
        shares[place % connections].append((f"{prefix}-{number:07d}", presented[place]))
    body = json.dumps({"filler": (body_bytes - 14) * "x"}).encode()
    with ThreadPoolExecutor(connections) as threads:
        filled = threads.map(functools.partial(_fill, deployment, body), shares)
        acknowledged = [one for share in filled for one in share]
    return Filled(acknowledged, destinations=len(accounts[0].destinations))


def _fill(deployment: Deployment, body: bytes, items: Sequence[Item]) -> list[Acknowledged]:
    acknowledged: list[Acknowledged] = []
    with deployment.sql() as connection:
        for batch in itertools.batched(items, BATCH):
            began = time.monotonic_ns()
            accept(connection, batch, body)
            ended = time.monotonic_ns()
            acknowledged += [Acknowledged(event, began, ended) for event, _ in batch]
    return acknowledged


def accept(connection: psycopg.Connection[Any], batch: Sequence[Item], body: bytes) -> None:
    """One call, one commit. Raises Wrong unless each event is accepted."""
    salts = [os.urandom(SALT_BYTES) for _ in batch]
    answers = connection.execute(
        ACCEPT,
        [
            SCOPE,
            [token.key_id for _, token in batch],
            [token.digest for _, token in batch],
            [event for event, _ in batch],
            [body for _ in batch],
            salts,
            [hashlib.sha256(salt + body).digest() for salt in salts],
            [uuid7() for _ in batch],
        ],
        prepare=True,
        binary=True,
    ).fetchall()
    if refused := [outcome for (outcome,) in answers if outcome != "accepted"]:
        raise Wrong(f"{len(refused)} of {len(batch)} events were not accepted: {refused[0]}")


def _presented(account: Account) -> PresentedToken:
    if (token := parse(account.token)) is None:
        raise Wrong(f"{account.id} has a token that is none")
    return token
