"""Which rate can be kept up, from the accept to the receiver and into the logs, and what does it cost?

Web and worker run with the product's defaults, wrk posts at a fixed rate, each client to a destination of its
own. The rate goes up in steps until something piles up, and the highest that did not is kept for a minute.
Nothing piles up means: in the last second of the load (by the median of several looks)

- no more deliveries are due and not claimed than a quarter of a second of the rate brings,
- the oldest event that is not yet in the logs is no older than a second,
- and over the whole load 99 % of the wanted rate were accepted.

Of that minute are also the write-ahead log of a delivery, and how far sealing and projecting lag. Then the
same again beside a foreign transaction: it has an xid, as one that has written, and stays open all the time.
"""

import contextlib
import itertools
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

from bench import bare, client, ledger, load
from bench.deployment import Account, Deployment
from bench.load import Load
from bench.processes import Watch
from bench.receiver import Receiver, Sighting
from bench.run import Figure, Run, Wrong, number
from bench.wal import Wal

NAME = "sustained"
MODES = {"quick", "standard", "long"}

CLIENTS = 20
CONNECTIONS = 64
BODY_BYTES = 1024
FLOOR_SECONDS = 3
FIRST_RATE = 2000.0
STEP = 500.0
LESS = 0.9  # of a rate that was kept up in a step, but not for a minute
TRIES = 5

DUE_SECONDS = 0.25
UNPROJECTED_SECONDS = 1.0
ACCEPTED = 0.99
LAST_NS = 1_000_000_000
LOOK_SECONDS = 0.2
LOOKS_BEGIN_SECONDS = 2.0  # before the end: the looks cost the product some of what it could do
POLL_SECONDS = 0.02  # of the checkpoint: so exact is the projection's lag
PATIENCE_SECONDS = 120.0

# A block's members are visible in its snapshot: what is not in the logs began after that of the last one that
# was projected (or was in progress then: few, and they are soon).
BACKLOG = """
WITH projected AS (
    SELECT b.scope, b.epoch, b.snapshot FROM block b
     WHERE b.scope = 0
       AND b.number = (SELECT min(c.block) FROM projection p
                         JOIN projection_checkpoint c ON c.name = p.name AND c.version = p.active))
SELECT (SELECT count(*) FROM outbox WHERE due_at <= clock_timestamp()),
       (SELECT coalesce(extract(epoch FROM clock_timestamp() - min(e.recorded_at)), 0)::float
          FROM event e, projected p
         WHERE e.scope = p.scope AND e.epoch = p.epoch AND e.xid >= pg_snapshot_xmax(p.snapshot))
"""
CHECKPOINT = """
SELECT coalesce(min(c.block), 0), clock_timestamp()
  FROM projection p JOIN projection_checkpoint c ON c.name = p.name AND c.version = p.active
"""
SEALED = "SELECT number, sealed_at FROM block WHERE scope = 0 AND number > %s ORDER BY number"
LAG = """
SELECT percentile_disc(ARRAY[0.5, 0.99]) WITHIN GROUP (
           ORDER BY (extract(epoch FROM done.at - e.recorded_at) * 1000)::float)
  FROM unnest(%s::bigint[], %s::timestamptz[]) AS done (block, at)
  JOIN event_position p ON p.scope = 0 AND p.block = done.block
  JOIN event e ON e.scope = p.scope AND e.epoch = p.epoch AND e.xid = p.xid AND e.seq = p.seq
"""


@dataclass(frozen=True, slots=True)
class Backlog:
    """What had piled up at a moment (CLOCK_MONOTONIC, nanoseconds)."""

    at_ns: int
    due: int
    unprojected_seconds: float


@dataclass(frozen=True, slots=True)
class Trial:
    """A load at one rate, delivered and projected to its end."""

    wanted: float
    load: Load
    sightings: list[Sighting]
    backlogs: list[Backlog]  # in the load's last second
    watch: Watch

    @property
    def rate(self) -> float:
        """Accepts per second, from the first answer to the last."""
        answers = [one.answered_ns for one in self.load.acknowledged]
        return (len(answers) - 1) * 1e9 / (answers[-1] - answers[0])

    def complaint(self) -> str:
        """What piled up; nothing when nothing did."""
        due = statistics.median(one.due for one in self.backlogs)
        age = statistics.median(one.unprojected_seconds for one in self.backlogs)
        if self.rate < self.wanted * ACCEPTED:
            return f"only {number(self.rate)} were accepted"
        if due > self.wanted * DUE_SECONDS:
            return f"{number(due)} deliveries were due at the end"
        if age > UNPROJECTED_SECONDS:
            return f"the logs were {number(age)} s behind at the end"
        return ""


@dataclass(frozen=True, slots=True)
class Minute:
    """A rate that was kept up, and what else is known of that time; lags are percentiles in ms."""

    trial: Trial
    wal: Wal
    seal_lag: dict[str, float]
    projection_lag: dict[str, float]


def measure(run: Run) -> None:
    with Receiver() as receiver, Deployment(run) as deployment:
        deployment.start_web()
        floor = _floor(deployment, receiver)
        deployment.start_worker()
        stage = Stage(run, deployment, receiver)
        minute = _keep(stage, _search(stage))
        run.record(_rate(minute.trial, floor))
        if run.mode == "quick":
            return
        run.record(_wal(minute))
        with _foreign(deployment):
            beside = stage.minute(minute.trial.wanted)
        if complaint := beside.trial.complaint():
            run.say(f"  beside a foreign transaction {complaint}")
    for figure in _lags(minute, beside):
        run.record(figure)


def _floor(deployment: Deployment, receiver: Receiver) -> float:
    """Events per second when each costs what both bare halves cost, one after the other."""
    (web,) = deployment.kinds()["web"]
    with bare.server(web, deployment.environment) as url:
        accepts = load.wrk(
            url,
            token="none",  # noqa: S106 - nobody reads it
            connections=CONNECTIONS,
            seconds=FLOOR_SECONDS,
            body_bytes=BODY_BYTES,
            prefix="floor",
        )
    sends = client.measure(receiver, seconds=FLOOR_SECONDS, processes=deployment.slots)
    return 1 / (1 / accepts.rate + 1 / sends.rate)


def _search(stage: "Stage") -> float:
    """The highest rate at which nothing piles up in a few seconds: up in steps, then between the last two."""
    run = stage.run
    seconds = run.pick(quick=4, standard=8)
    finest = run.pick(quick=STEP, standard=STEP / 2)
    good, bad = 0.0, float("inf")
    rate = FIRST_RATE
    while bad - good > finest:
        complaint = stage.trial(rate, seconds=seconds).complaint()
        run.say(f"  {number(rate)}/s for {seconds} s: {complaint or 'nothing piles up'}")
        if complaint:
            bad = rate
        else:
            good = rate
        rate = good + STEP if bad == float("inf") else (good + bad) / 2
    if not good:
        raise Wrong(f"even {number(bad)} events per second pile up")
    return good


def _keep(stage: "Stage", rate: float) -> Minute:
    for _ in range(TRIES):
        minute = stage.minute(rate)
        if not (complaint := minute.trial.complaint()):
            return minute
        stage.run.say(f"  {number(rate)}/s for {stage.seconds} s: {complaint}")
        rate = min(rate * LESS, minute.trial.rate)  # what it could accept is the most that it can keep up
    raise Wrong(f"nothing was kept up for {stage.seconds} s")


class Stage:
    """The product with its clients, who post together at a rate."""

    def __init__(self, run: Run, deployment: Deployment, receiver: Receiver) -> None:
        self.run = run
        self.seconds = run.pick(quick=10, standard=60)
        self._deployment = deployment
        self._receiver = receiver
        self._accounts: list[Account] = [
            deployment.account(destinations=[f"{receiver.url}/{name}"]) for name in range(CLIENTS)
        ]
        self._loads = itertools.count()
        self._sql = deployment.sql()

    def trial(self, rate: float, *, seconds: int) -> Trial:
        """Raises Lost and the like."""
        self._receiver.reset()
        backlogs: list[Backlog] = []
        with (
            Watch(self._deployment, receiver=self._receiver.process.pid) as watch,
            _repeatedly(
                self._deployment,
                lambda sql: backlogs.append(_backlog(sql)),
                every=LOOK_SECONDS,
                after=max(0.0, seconds - LOOKS_BEGIN_SECONDS),
            ),
        ):
            done = load.wrk(
                self._deployment.url,
                token=[account.token for account in self._accounts],
                connections=CONNECTIONS,
                seconds=seconds,
                body_bytes=BODY_BYTES,
                prefix=f"sustained-{next(self._loads)}",
                rate=rate,
            )
        self._settle()
        sightings = self._receiver.sightings()
        ledger.check(done.acknowledged, sightings, unanswered=done.unanswered)
        end = done.acknowledged[-1].answered_ns
        last = [one for one in backlogs if end - LAST_NS <= one.at_ns <= end]
        return Trial(rate, done, sightings, last, watch)

    def minute(self, rate: float) -> Minute:
        projected: list[tuple[int, datetime]] = []
        (before, _) = self._one(CHECKPOINT)
        with (
            Wal(self._deployment) as wal,
            _repeatedly(self._deployment, lambda sql: projected.append(_checkpoint(sql)), every=POLL_SECONDS),
        ):
            trial = self.trial(rate, seconds=self.seconds)
            time.sleep(2 * POLL_SECONDS)
        sealed = self._sql.execute(SEALED, [before]).fetchall()
        return Minute(trial, wal, self._lag(sealed), self._lag(list(_moments(projected, sealed))))

    def _settle(self) -> None:
        """Until all is delivered and in the logs."""
        self._deployment.wait_drained(timeout=PATIENCE_SECONDS)
        until = time.monotonic() + PATIENCE_SECONDS
        while _backlog(self._sql).unprojected_seconds:
            if time.monotonic() > until:
                raise Wrong(f"the logs are behind, {PATIENCE_SECONDS:g} s after the load")
            time.sleep(LOOK_SECONDS)

    def _lag(self, done: Sequence[tuple[int, datetime]]) -> dict[str, float]:
        blocks, moments = zip(*done, strict=True)
        ((p50, p99),) = self._one(LAG, [list(blocks), list(moments)])
        return {"p50": p50, "p99": p99}

    def _one(self, query: str, values: Sequence[Any] = ()) -> Any:
        return self._sql.execute(query.encode(), values).fetchone()


def _backlog(sql: psycopg.Connection[Any]) -> Backlog:
    ((due, seconds),) = sql.execute(BACKLOG).fetchall()
    return Backlog(time.monotonic_ns(), due, seconds)


def _checkpoint(sql: psycopg.Connection[Any]) -> tuple[int, datetime]:
    ((block, moment),) = sql.execute(CHECKPOINT).fetchall()
    return block, moment


def _moments(
    projected: Sequence[tuple[int, datetime]], sealed: Sequence[tuple[int, datetime]]
) -> Iterator[tuple[int, datetime]]:
    """When each sealed block was seen to be projected: at the first look that found the checkpoint there."""
    looks = iter(projected)
    checkpoint, moment = next(looks)
    for block, _ in sealed:
        while checkpoint < block:
            checkpoint, moment = next(looks)
        yield block, moment


@contextlib.contextmanager
def _repeatedly(
    deployment: Deployment,
    look: Callable[[psycopg.Connection[Any]], None],
    *,
    every: float,
    after: float = 0.0,
) -> Iterator[None]:
    """Looks at the database from a thread, from so many seconds on until the end, and once more."""
    done = threading.Event()

    def run() -> None:
        done.wait(after)
        with deployment.sql() as sql:
            while not done.wait(every):
                look(sql)
            look(sql)

    thread = threading.Thread(target=run, name="look", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@contextlib.contextmanager
def _foreign(deployment: Deployment) -> Iterator[None]:
    """A transaction that is none of ours; it must still be open at the end."""
    with deployment.sql() as sql, sql.transaction(force_rollback=True):
        sql.execute("SELECT pg_current_xact_id()")
        yield
        sql.execute("SELECT 1")


# --- the figures -------------------------------------------------------------------------------------------


def _rate(trial: Trial, floor: float) -> Figure:
    answered = {one.event_id: one.answered_ns for one in trial.load.acknowledged}
    sent = {one.event_id: one.sent_ns for one in trial.load.acknowledged}
    whole = ledger.percentiles(ledger.latencies_ms(sent, trial.sightings))
    accept = ledger.percentiles(trial.load.latencies_ms)
    return Figure(
        key="sustained.rate",
        label=f"events/s from the accept to the receiver, nothing piling up for {trial.load.seconds:.0f} s",
        value=trial.rate,
        unit="1/s",
        floor=floor,
        floor_label="the bare server, then the bare client",
        percentiles=ledger.percentiles(ledger.latencies_ms(answered, trial.sightings)),
        cpu=trial.watch.per_event(len(trial.sightings)),
        memory=trial.watch.memory,
        note=f"from the sending on: p50 {number(whole['p50'])} ms, p99 {number(whole['p99'])} ms",
        more={f"from_sending_{name}": ms for name, ms in whole.items()}
        | {f"accept_{name}": ms for name, ms in accept.items()},
    )


def _wal(minute: Minute) -> Figure:
    deliveries = len(minute.trial.sightings)
    without_images = minute.wal.without_images / deliveries - BODY_BYTES
    records = minute.wal.records / deliveries
    groups = {
        group: share * minute.wal.without_images / deliveries - (BODY_BYTES if group == "payload" else 0)
        for group, share in minute.wal.shares.items()
    }
    return Figure(
        key="sustained.wal",
        label="write-ahead log per delivered event, all work, without the payload's own bytes",
        value=minute.wal.bytes / deliveries - BODY_BYTES,
        unit="bytes",
        note=f"{number(without_images)} without full page images, in {number(records)} records: "
        f"{', '.join(f'{group} {number(size)}' for group, size in groups.items())}; "
        f"checkpoints: 1 before, {minute.wal.checkpoints:.0f} meanwhile",
        more={"without_full_page_images": without_images, "records": records}
        | {f"of_{group}": size for group, size in groups.items()},
    )


def _lags(minute: Minute, beside: Minute) -> Iterator[Figure]:
    for key, label in (
        ("seal_lag", "from recorded to sealed"),
        ("projection_lag", "from recorded to the logs"),
    ):
        alone: dict[str, float] = getattr(minute, key)
        foreign: dict[str, float] = getattr(beside, key)
        yield Figure(
            key=f"sustained.{key}", label=f"{label}, p99", value=alone["p99"], unit="ms", percentiles=alone
        )
        yield Figure(
            key=f"sustained.{key}_foreign",
            label=f"{label}, p99, beside a foreign transaction",
            value=foreign["p99"],
            unit="ms",
            floor=alone["p99"],
            floor_label="without it",
            percentiles=foreign,
        )
