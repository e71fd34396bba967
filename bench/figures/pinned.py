"""What is left of the speed when somebody's long read transaction keeps PostgreSQL from cleaning up?

All that was updated or deleted since it began stays in tables and indexes. So the product works at a fixed
rate for minutes, once without such a transaction and once with it, each time on a deployment of its own with
one account (whose every event goes by the same row). Then its capacity is measured while the transaction is
still open: accepts with no worker running, and the drain of a full outbox, each several times. The median
counts: what lies 10 minutes apart differs by a tenth on a shared machine, with or without a transaction.

BENCH_PINNED_SECONDS changes how long; the default is ten minutes each.
"""

import contextlib
import os
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
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
TIMES = 3
ACCEPT_SECONDS = 4
ACCEPT_CONNECTIONS = 64
FULL = 20_000
PATIENCE_SECONDS = 300.0

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
class Phase:
    """Rates are per second, latencies in ms from the 202 to the sighting, in the last minute."""

    accepts: float
    deliveries: float
    latencies: dict[str, float]
    tables: list[Table]
    watch: Watch


def measure(run: Run) -> None:
    free, pinned = phase(run, pin=False), phase(run, pin=True)
    floor_label = "without the transaction"
    for name, value, floor in (
        ("accepts", pinned.accepts, free.accepts),
        ("deliveries", pinned.deliveries, free.deliveries),
    ):
        run.record(
            Figure(
                key=f"pinned.rate.{name}",
                label=f"{name}/s after {SECONDS} s at {RATE}/s with a long transaction",
                value=value,
                unit="1/s",
                floor=floor,
                floor_label=floor_label,
            )
        )
    run.record(
        Figure(
            key="pinned.latency",
            label=f"accept to receiver at {RATE}/s in the last minute, with a long transaction: p99",
            value=pinned.latencies["p99"],
            unit="ms",
            floor=free.latencies["p99"],
            floor_label=floor_label,
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
            floor_label=floor_label,
            more=dict(sizes(pinned.tables)) | {f"{name}_without": n for name, n in sizes(free.tables)},
        )
    )


def sizes(tables: list[Table]) -> Iterator[tuple[str, float]]:
    for table in tables:
        for name, value in table._asdict().items():
            if name != "name":
                yield f"{table.name}.{name}", value


def phase(run: Run, *, pin: bool) -> Phase:
    with Receiver() as receiver, Deployment(run) as deployment:
        deployment.start_web()
        account = deployment.account(destinations=[f"{receiver.url}/"])
        deployment.start_worker()
        with horizon(deployment) if pin else contextlib.nullcontext():
            with Watch(deployment, receiver=receiver.process.pid) as watch:
                work = post(
                    deployment, account, prefix="paced", connections=CONNECTIONS, seconds=SECONDS, rate=RATE
                )
            latencies = seen(deployment, receiver, work)
            tables = look(run, deployment, pin=pin)
            accepts, deliveries = [], []
            for turn in range(TIMES):
                deployment.stop_worker()
                accepted = post(
                    deployment,
                    account,
                    prefix=f"full-{turn}",
                    connections=ACCEPT_CONNECTIONS,
                    seconds=ACCEPT_SECONDS,
                )
                accepts.append(accepted.rate)
                deliveries.append(drained(deployment, receiver, account, accepted, prefix=f"filled-{turn}"))
        for name, rates in ("accepts", accepts), ("deliveries", deliveries):
            run.say(f"    {name}/s: {', '.join(f'{rate:,.0f}' for rate in rates)}")
        return Phase(statistics.median(accepts), statistics.median(deliveries), latencies, tables, watch)


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


def post(
    deployment: Deployment,
    account: Account,
    *,
    prefix: str,
    connections: int,
    seconds: int,
    rate: float | None = None,
) -> Load:
    return load.wrk(
        deployment.url,
        token=account.token,
        connections=connections,
        seconds=seconds,
        body_bytes=BODY_BYTES,
        prefix=prefix,
        rate=rate,
    )


def seen(deployment: Deployment, receiver: Receiver, work: Load) -> dict[str, float]:
    """Everything has arrived; how long did it take towards the end?"""
    deployment.wait_drained(timeout=PATIENCE_SECONDS)
    sightings = receiver.sightings()
    receiver.reset()
    ledger.check(work.acknowledged, sightings, unanswered=work.unanswered)
    since = work.acknowledged[-1].answered_ns - LAST_SECONDS * 1e9
    moments = {one.event_id: one.answered_ns for one in work.acknowledged if one.answered_ns >= since}
    return ledger.percentiles(ledger.latencies_ms(moments, sightings))


def look(run: Run, deployment: Deployment, *, pin: bool) -> list[Table]:
    with deployment.sql() as connection:
        tables = [Table(*row) for row in connection.execute(TABLES, [list(HOT)]).fetchall()]
    run.say(f"  after {SECONDS} s {'with' if pin else 'without'} a long transaction:")
    for table in tables:
        megabytes = f"{table.table_bytes / 1e6:.1f} MB and {table.index_bytes / 1e6:.1f} MB of indexes"
        run.say(f"    {table.name}: {table.dead:,} dead rows, {megabytes}")
    return tables


def drained(
    deployment: Deployment, receiver: Receiver, account: Account, accepted: Load, *, prefix: str
) -> float:
    """Deliveries per second from an outbox that was filled up while no worker ran."""
    missing = max(0, FULL - accepted.requests)
    filled = filling.fill(deployment, [account], events=missing, prefix=prefix)
    expected = len(accepted.acknowledged) + filled.rows
    deployment.start_worker()
    receiver.wait_for(expected, timeout=PATIENCE_SECONDS)
    deployment.wait_drained(timeout=PATIENCE_SECONDS)
    sightings = receiver.sightings()
    receiver.reset()
    ledger.check(accepted.acknowledged, sightings, unanswered=accepted.unanswered + filled.rows)
    return steady.rate([sighting.at_ns for sighting in sightings])
