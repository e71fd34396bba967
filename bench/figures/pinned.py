"""What is left of the speed when somebody's long read transaction keeps PostgreSQL from cleaning up?

All that was updated or deleted since it began stays in tables and indexes. So the product works at a fixed
rate for minutes, once without such a transaction and once with it, each time on a deployment of its own with
one account (whose every event goes by the same row). Then the capacity of both is measured while the
transaction is still open: accepts with no worker running, and the drain of a full outbox. They take turns,
since what lies ten minutes apart differs by a tenth on a shared machine, with or without a transaction.

BENCH_PINNED_SECONDS changes how long they work before; the default is ten minutes each.
"""

import contextlib
import os
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from bench import filling, ledger, load, steady
from bench.deployment import Account, Deployment
from bench.load import Load
from bench.processes import Watch
from bench.receiver import Receiver
from bench.run import Figure, Run, Wrong

NAME = "pinned"
MODES = {"long"}

SECONDS = int(os.environ.get("BENCH_PINNED_SECONDS") or 600)
RATE = 500
CONNECTIONS = 16
LAST_SECONDS = 60
BODY_BYTES = 1024
TURNS = 10
ACCEPT_SECONDS = 4
ACCEPT_CONNECTIONS = 64
FULL = 20_000
PATIENCE_SECONDS = 300.0
FLOOR = "without the transaction"

HOT = (
    "outbox",
    "gate",
    "admission",
    "lane",
    "slot",
    "projection_checkpoint",
    "delivery_total",
    "delivery_log_v1",
)
TABLES = """
SELECT relname, n_dead_tup, pg_table_size(relid), pg_indexes_size(relid)
  FROM pg_stat_user_tables WHERE relname = ANY (%s) ORDER BY relname
"""


class Table(NamedTuple):
    """`dead` rows are those that PostgreSQL knows of and could not remove yet."""

    name: str
    dead: int
    table_bytes: int
    index_bytes: int


@dataclass(frozen=True, slots=True)
class Worked:
    """Latencies are in ms from the 202 to the sighting, in the last minute."""

    latencies: dict[str, float]
    tables: list[Table]
    watch: Watch


@dataclass(slots=True)
class Side:
    """A deployment with a long transaction or without, and what it did per second in its turns."""

    name: str
    deployment: Deployment
    account: Account
    receiver: Receiver
    accepts: list[float] = field(default_factory=list)
    deliveries: list[float] = field(default_factory=list)


def measure(run: Run) -> None:
    with contextlib.ExitStack() as stack:
        sides = without, beside = [stack.enter_context(side(run, name)) for name in ("without", "with")]
        free = work(run, without)
        stack.enter_context(horizon(beside.deployment))
        pinned = work(run, beside)
        for turn, one in steady.by_turns(sides, TURNS):
            take_turn(run, one, turn)
    for name, rates, floors in (
        ("accepts", beside.accepts, without.accepts),
        ("deliveries", beside.deliveries, without.deliveries),
    ):
        run.record(
            Figure(
                key=f"pinned.rate.{name}",
                label=f"{name}/s after {SECONDS} s at {RATE}/s with a long transaction",
                value=statistics.median(rates),
                unit="1/s",
                floor=statistics.median(floors),
                floor_label=FLOOR,
                more=turns(rates, "with") | turns(floors, "without"),
            )
        )
    run.record(
        Figure(
            key="pinned.latency",
            label=f"accept to receiver at {RATE}/s in the last minute, with a long transaction: p99",
            value=pinned.latencies["p99"],
            unit="ms",
            floor=free.latencies["p99"],
            floor_label=FLOOR,
            percentiles=pinned.latencies,
            cpu=pinned.watch.per_event(RATE * SECONDS),
            memory=pinned.watch.memory,
            more={
                f"{kind}_cpu_without": value for kind, value in free.watch.per_event(RATE * SECONDS).items()
            },
        )
    )
    run.record(
        Figure(
            key="pinned.dead",
            label="dead rows after a long transaction",
            value=sum(table.dead for table in pinned.tables),
            unit="rows",
            floor=sum(table.dead for table in free.tables),
            floor_label=FLOOR,
            more=dict(sizes(pinned.tables)) | {f"{name}_without": n for name, n in sizes(free.tables)},
        )
    )


def sizes(tables: list[Table]) -> Iterator[tuple[str, float]]:
    for table in tables:
        for name, value in table._asdict().items():
            if name != "name":
                yield f"{table.name}.{name}", value


def turns(rates: list[float], which: str) -> dict[str, float]:
    return {f"{which}.{number}": rate for number, rate in enumerate(rates, 1)}


@contextlib.contextmanager
def side(run: Run, name: str) -> Iterator[Side]:
    with Receiver() as receiver, Deployment(run) as deployment:
        deployment.start_web()
        yield Side(name, deployment, deployment.account(destinations=[f"{receiver.url}/"]), receiver)


def work(run: Run, side: Side) -> Worked:
    """At the fixed rate, to the end: then its worker is stopped, and the other one has the machine."""
    side.deployment.start_worker()
    with Watch(side.deployment, receiver=side.receiver.process.pid) as watch:
        sent = post(side, prefix="paced", connections=CONNECTIONS, seconds=SECONDS, rate=RATE)
    latencies = seen(side, sent)
    tables = look(run, side)
    side.deployment.stop_worker()
    return Worked(latencies, tables, watch)


def take_turn(run: Run, side: Side, turn: int) -> None:
    accepted = post(side, prefix=f"full-{turn}", connections=ACCEPT_CONNECTIONS, seconds=ACCEPT_SECONDS)
    side.accepts.append(accepted.rate)
    side.deliveries.append(drained(side, accepted, prefix=f"filled-{turn}"))
    run.say(f"    {side.name}: {side.accepts[-1]:,.0f} accepts/s, {side.deliveries[-1]:,.0f} deliveries/s")


@contextlib.contextmanager
def horizon(deployment: Deployment) -> Iterator[None]:
    """A transaction that has read something: what dies from now on, it might still want to see."""
    with deployment.sql() as connection, deployment.sql() as looker:
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        connection.execute("SELECT count(*) FROM event")
        yield
        held = "SELECT age(backend_xmin) FROM pg_stat_activity WHERE pid = %s"
        ((age,),) = looker.execute(held, [connection.info.backend_pid]).fetchall()
        if not age or age < FULL // filling.BATCH:
            raise Wrong(f"the horizon wasn't pinned: it is {age} transactions old")
        connection.rollback()


def post(side: Side, *, prefix: str, connections: int, seconds: int, rate: float | None = None) -> Load:
    return load.wrk(
        side.deployment.url,
        token=side.account.token,
        connections=connections,
        seconds=seconds,
        body_bytes=BODY_BYTES,
        prefix=prefix,
        rate=rate,
    )


def seen(side: Side, sent: Load) -> dict[str, float]:
    """Everything has arrived; how long did it take towards the end?"""
    side.deployment.wait_drained(timeout=PATIENCE_SECONDS)
    sightings = side.receiver.sightings()
    side.receiver.reset()
    ledger.check(sent.acknowledged, sightings, unanswered=sent.unanswered)
    since = sent.acknowledged[-1].answered_ns - LAST_SECONDS * 1e9
    moments = {one.event_id: one.answered_ns for one in sent.acknowledged if one.answered_ns >= since}
    return ledger.percentiles(ledger.latencies_ms(moments, sightings))


def look(run: Run, side: Side) -> list[Table]:
    with side.deployment.sql() as connection:
        tables = [Table(*row) for row in connection.execute(TABLES, [list(HOT)]).fetchall()]
    run.say(f"  after {SECONDS} s {side.name} a long transaction:")
    for table in tables:
        megabytes = f"{table.table_bytes / 1e6:.1f} MB and {table.index_bytes / 1e6:.1f} MB of indexes"
        run.say(f"    {table.name}: {table.dead:,} dead rows, {megabytes}")
    return tables


def drained(side: Side, accepted: Load, *, prefix: str) -> float:
    """Deliveries per second from an outbox that was filled up while no worker ran."""
    missing = max(0, FULL - accepted.requests)
    filled = filling.fill(side.deployment, [side.account], events=missing, prefix=prefix)
    expected = len(accepted.acknowledged) + filled.rows
    side.deployment.start_worker()
    side.receiver.wait_for(expected, timeout=PATIENCE_SECONDS)
    side.deployment.wait_drained(timeout=PATIENCE_SECONDS)
    side.deployment.stop_worker()
    sightings = side.receiver.sightings()
    side.receiver.reset()
    ledger.check(accepted.acknowledged, sightings, unanswered=accepted.unanswered + filled.rows)
    return steady.rate([sighting.at_ns for sighting in sightings])
