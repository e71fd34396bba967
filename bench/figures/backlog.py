"""What does it cost the deliveries that are due that very many others wait?

Always the same is measured: 20,000 rows of 20 destinations that come due at one moment, while two drains are
at work that have caught up with the history. Beside them wait

- a thousand rows until their time comes, as after a failed attempt (the floor of the others),
- a million of these,
- a million that are all due, over a hundred destinations: the first seconds of that drain,
- a hundred thousand of one destination that refuses every connection and rests, its circuit opened by itself.
  Before that, as information: how long they keep the others waiting that are all ready, and older, at first.

Each has a deployment of its own, and they are measured by turns: a neighbour of the machine disturbs all.
Every row is accepted (bench.filling). Those that wait until later were put off by an UPDATE of `due_at`, and
PostgreSQL was told to VACUUM and ANALYZE, as autovacuum does within a minute on a system that grows to that.
"""

import contextlib
import itertools
import socket
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg

from bench import filling, ledger, steady
from bench.deployment import HOST, Account, Deployment
from bench.figures.deliveries import KINDS, Drained, drain, highest, middle
from bench.filling import Filled
from bench.processes import Watch
from bench.receiver import Receiver
from bench.run import Figure, Run, Wrong
from config import keeper

NAME = "backlog"
MODES = {"standard", "long"}

WIDTH = 10  # destinations of an account: each event makes as many rows
LIVE_ACCOUNTS = 2
LIVE_EVENTS = 2_000
WAITING_ACCOUNTS = 10
FEW_EVENTS = 100
MANY_EVENTS = 100_000
DEAD_EVENTS = 100_000
TURNS = 3
PROBES = 1_000  # more than what was tried before its circuit opened, and what probed since
DUE_SECONDS = 20.0
PATIENCE_SECONDS = 180.0
LOOK_SECONDS = 0.2

PUT_OFF = """
UPDATE outbox SET due_at = clock_timestamp() + interval '1 hour' + random() * interval '1 hour'
 WHERE account_id = ANY (%s::uuid[]) AND due_at <= clock_timestamp()
"""
COME_DUE = "UPDATE outbox SET due_at = clock_timestamp() WHERE account_id = ANY (%s::uuid[])"
BEHIND = """
SELECT (SELECT count(*) FROM event) > (SELECT coalesce(max(first_position + count - 1), 0) FROM block)
    OR EXISTS (SELECT FROM projection p
                 JOIN projection_checkpoint c ON c.name = p.name AND c.version = p.active
                WHERE c.block < (SELECT coalesce(max(number), 0) FROM block))
"""
# Out of the others' way: its circuit is open, and what a claim could find of it is its probe at most.
RESTS = """
SELECT l.resting AND (SELECT count(*) FROM outbox o
                       WHERE o.destination_id = l.destination_id AND NOT o.held) <= 1
  FROM lane l WHERE l.destination_id = %s
"""


@dataclass
class Scene:
    """A deployment with two kinds of accounts: what is measured goes to `live`, the rest may wait."""

    deployment: Deployment
    receiver: Receiver
    sql: psycopg.Connection[Any]
    live: Sequence[Account]
    drained: list[Drained] = field(default_factory=list)
    names: Iterator[str] = field(default_factory=lambda: map("backlog-{}".format, itertools.count(1)))

    def fill(self, accounts: Sequence[Account], events: int) -> Filled:
        return filling.fill(self.deployment, accounts, events=events, prefix=next(self.names))

    def put_off(self, accounts: Sequence[Account]) -> None:
        self.sql.execute(PUT_OFF, [_ids(accounts)])

    def come_due(self, accounts: Sequence[Account]) -> None:
        """At one moment for all of them; the drains poll each second."""
        self.sql.execute(COME_DUE, [_ids(accounts)])

    def tidy(self) -> None:
        self.sql.execute("VACUUM (ANALYZE) outbox")
        self.sql.execute("ANALYZE")
        self.sql.execute("CHECKPOINT")

    def catch_up(self) -> None:
        """Until every event is sealed and projected: that work is not what is measured."""
        self.wait(BEHIND, [], holds=False, what="the history is still behind")

    def wait(self, query: str, values: Sequence[Any], *, holds: bool, what: str) -> None:
        until = time.monotonic() + PATIENCE_SECONDS
        while bool(_value(self.sql, query, values)) is not holds:
            self.deployment.check()
            if time.monotonic() > until:
                raise Wrong(f"{what} after {PATIENCE_SECONDS:g} s")
            time.sleep(LOOK_SECONDS)

    def drain_live(self) -> Drained:
        """What this file is about: from no worker to no worker, with all that waits besides."""
        filled = self.fill(self.live, LIVE_EVENTS)
        self.put_off(self.live)
        self.tidy()
        self.deployment.start_worker()
        self.catch_up()
        drained = drain(self.deployment, self.receiver, filled, begin=lambda: self.come_due(self.live))
        self.deployment.stop_worker()
        return drained


def measure(run: Run) -> None:
    with _scene(run) as thousand, _scene(run) as million, _scene(run) as dead, _refusing() as url:
        _let_wait(thousand, FEW_EVENTS)
        waiting = _let_wait(million, MANY_EVENTS)
        seconds = _let_die(dead, url)
        scenes = (thousand, million, dead)
        for scene in scenes:
            scene.tidy()  # or autovacuum would do it in another's turn
        for _, scene in steady.by_turns(scenes, TURNS):
            scene.drained.append(scene.drain_live())
        floor = statistics.median(one.rate for one in thousand.drained)
        run.record(_figure("thousand", "a thousand scheduled for later", thousand.drained, None))
        run.record(_figure("million", "a million scheduled for later", million.drained, floor))
        _measure_due(run, million, waiting, floor)
        _measure_dead(run, dead, seconds, floor)


def _let_wait(scene: Scene, events: int) -> Sequence[Account]:
    waiting = [_account(scene, f"waiting-{number}") for number in range(WAITING_ACCOUNTS)]
    scene.fill(waiting, events)
    scene.put_off(waiting)
    return waiting


def _let_die(scene: Scene, url: str) -> float:
    """Open the circuit of a destination with very many rows; how many seconds it kept the others waiting."""
    dead = scene.deployment.account(destinations=[url])
    scene.fill([dead], DEAD_EVENTS)
    filled = scene.fill(scene.live, LIVE_EVENTS)
    seconds = _seconds_to_a_tenth(scene, filled)
    scene.wait(RESTS, dead.destinations, holds=True, what="the dead destination is still in the way")
    scene.deployment.stop_worker()
    return seconds


def _measure_due(run: Run, scene: Scene, waiting: Sequence[Account], floor: float) -> None:
    scene.come_due(waiting)
    scene.tidy()
    rows = _value(scene.sql, "SELECT count(*) FROM outbox")
    scene.receiver.reset()
    scene.deployment.start_worker()
    with Watch(scene.deployment, receiver=scene.receiver.process.pid) as watch:
        before = scene.receiver.count()
        time.sleep(DUE_SECONDS)
        watched = scene.receiver.count() - before
    scene.deployment.stop_worker()
    sightings = scene.receiver.sightings()
    kinds = {kind: us for kind, us in watch.per_event(watched).items() if kind in KINDS}
    left = _value(scene.sql, "SELECT count(*) FROM outbox")
    if len({one.delivery_id for one in sightings}) != len(sightings) or len(sightings) + left != rows:
        raise Wrong(f"of {rows} deliveries {len(sightings)} were seen and {left} are left")
    drained = Drained(steady.rate([one.at_ns for one in sightings]), cpu=kinds, memory=watch.memory)
    run.record(
        _figure(
            "million_due", f"a million due at once, {WIDTH * len(waiting)} destinations", [drained], floor
        )
    )


def _measure_dead(run: Run, scene: Scene, seconds: float, floor: float) -> None:
    held = _value(scene.sql, "SELECT count(*) FROM outbox WHERE held")
    if held < DEAD_EVENTS - PROBES:
        raise Wrong(f"the dead destination held {held} of {DEAD_EVENTS} deliveries")
    label = f"a dead destination's {DEAD_EVENTS:,}"
    run.record(
        Figure(
            key="backlog.dying",
            label=f"until a tenth of the others' got past {label}, all ready and older",
            value=seconds,
            unit="s",
        )
    )
    run.record(_figure("dead", f"{label}, its circuit open", scene.drained, floor))


def _seconds_to_a_tenth(scene: Scene, filled: Filled) -> float:
    """From the moment that the drains are at work; they go on until all is delivered."""
    scene.receiver.reset()
    scene.deployment.start_worker()
    began = time.monotonic_ns()
    scene.deployment.wait_drained(timeout=PATIENCE_SECONDS)
    sightings = scene.receiver.sightings()
    ledger.check(filled.acknowledged, sightings, destinations=filled.destinations)
    return (sightings[len(sightings) // 10].at_ns - began) / 1e9


@contextlib.contextmanager
def _refusing() -> Iterator[str]:
    """The address of a port that is taken and never listens: connections to it are refused."""
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        yield f"http://{HOST}:{taken.getsockname()[1]}/dead"


def _figure(key: str, label: str, drained: Sequence[Drained], floor: float | None) -> Figure:
    return Figure(
        key=f"backlog.{key}",
        label=f"deliveries/s, 2 drains, beside {label}",
        value=statistics.median(one.rate for one in drained),
        unit="1/s",
        floor=floor,
        floor_label="" if floor is None else "beside a thousand",
        cpu=middle([one.cpu for one in drained]),
        memory=highest([one.memory for one in drained]),
        more={f"turn_{turn}": one.rate for turn, one in enumerate(drained, 1)},
    )


@contextlib.contextmanager
def _scene(run: Run) -> Iterator[Scene]:
    with (
        Receiver() as receiver,
        Deployment(run) as deployment,
        deployment.sql(role=keeper.SUPERUSER) as connection,
    ):
        deployment.start_web()
        scene = Scene(deployment, receiver, connection, live=[])
        scene.live = [_account(scene, f"live-{number}") for number in range(LIVE_ACCOUNTS)]
        yield scene


def _account(scene: Scene, name: str) -> Account:
    urls = [f"{scene.receiver.url}/{name}/{number}" for number in range(WIDTH)]
    return scene.deployment.account(destinations=urls)


def _ids(accounts: Sequence[Account]) -> list[str]:
    return [account.id for account in accounts]


def _value(connection: psycopg.Connection[Any], query: str, values: Sequence[Any] = ()) -> Any:
    row = connection.execute(query.encode(), values).fetchone()
    return row[0] if row else None
