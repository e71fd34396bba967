"""A worker is killed, stopped, cut off: what was accepted arrives, and every attempt is on record."""

import os
import signal
import statistics
import time
from contextlib import contextmanager

import psycopg
import pytest
from django.db import connections
from psycopg import sql

from outbox import tasks
from tests.databases import maintenance
from tests.outbox.workers import Alice, Worker, eventually, parent_of
from tests.receivers import Answer

pytestmark = pytest.mark.slow  # real processes, killed and waited for


@pytest.fixture
def worker(database, tmp_path):
    with Worker(database, tmp_path / "worker.log") as running:
        yield running


@pytest.fixture
def two_slots(database, tmp_path):
    with Worker(database, tmp_path / "worker.log", DRAIN_SLOTS="2") as running:
        yield running


def seen_by(receiver):
    return [
        (seen.headers["webhook-id"], int(seen.headers["cl-x-attempt"]), seen.body) for seen in receiver.seen
    ]


def told(worker):
    return [(kind.removeprefix("delivery."), data["attempt"]) for kind, data in worker.events()]


def test_killed_between_send_and_settle_gives_one_interruption_and_a_second_sighting(worker, receiver):
    receiver.on("/hook", Answer(delay=1), Answer())
    alice = Alice()
    alice.sends_to(receiver.url("/hook"), timeout=2)
    (drain,) = worker.drains()
    alice.posts("order-1", body=b'{"total": 1.10}')
    receiver.wait_for(1)
    os.kill(drain, signal.SIGKILL)
    worker.delivers_all(within=40)
    (first, second) = seen_by(receiver)
    assert first == (second[0], 1, b'{"total": 1.10}')
    assert second == (first[0], 2, b'{"total": 1.10}')
    assert told(worker) == [("interrupted", 1), ("succeeded", 2)]


def test_a_late_worker_changes_nothing(worker, receiver):
    receiver.on("/hook", Answer(delay=0.5), Answer())
    alice = Alice()
    alice.sends_to(receiver.url("/hook"), timeout=2)
    (late,) = worker.drains()
    alice.posts("order-1")
    receiver.wait_for(1)
    os.kill(late, signal.SIGSTOP)
    try:
        worker.delivers_all(within=40)
        before = worker.events()
    finally:
        os.kill(late, signal.SIGCONT)
    eventually(lambda: "came after their lease" in worker.log, "the late worker's outcome", worker)
    assert worker.events() == before
    assert told(worker) == [("interrupted", 1), ("succeeded", 2)]


def test_a_drain_that_is_stopped_holds_nobody_up(two_slots, receiver):
    receiver.on("/hook", Answer(delay=0.01))
    alice = Alice()
    alice.sends_to(receiver.url("/hook"))
    stopped, _ = two_slots.drains(2)
    alice.posts(*[f"before-{n}" for n in range(300)])
    receiver.wait_for(20)
    os.kill(stopped, signal.SIGSTOP)
    receiver.forget()
    alice.posts(*[f"after-{n}" for n in range(20)])
    wanted = {f"after-{n}" for n in range(20)}
    eventually(
        lambda: wanted <= {seen.headers["cl-x-event-id"] for seen in receiver.seen}, "the next", within=5
    )
    two_slots.delivers_all(within=40)  # what the stopped one had leased, too
    logged = "SELECT count(*) FROM delivery_log WHERE status = 'success'"
    eventually(
        lambda: two_slots.sql.execute(logged).fetchone() == (320,), "sealing and projecting", two_slots
    )


@pytest.mark.parametrize(
    ("number", "group"),
    [
        pytest.param(signal.SIGTERM, False, id="SIGTERM to main"),
        pytest.param(signal.SIGTERM, True, id="SIGTERM to the group"),  # systemd, a supervisor
        pytest.param(signal.SIGINT, True, id="Ctrl-C"),
        pytest.param(signal.SIGHUP, True, id="the terminal closed"),
    ],
)
def test_a_signal_under_load_ends_it_in_order(two_slots, receiver, group, number):
    receiver.on("/hook", Answer(delay=0.3))
    alice = Alice()
    alice.sends_to(receiver.url("/hook"))
    two_slots.drains(2)
    alice.posts(*[str(n) for n in range(600)])
    receiver.wait_for(40)
    began = time.monotonic()
    os.killpg(two_slots.process.pid, number) if group else two_slots.signal(number)
    assert two_slots.ends() == 0, two_slots.log
    assert time.monotonic() - began < 10
    assert two_slots.group() == []
    assert two_slots.leased() == 0
    assert two_slots.waiting() > 0, "there was no load left to stop under"
    sent = sorted((delivery, attempt) for delivery, attempt, _ in seen_by(receiver))
    assert len(sent) == len(two_slots.events("succeeded")) == 600 - two_slots.waiting()
    assert two_slots.events("interrupted") == []
    assert {attempt for _, attempt in sent} == {1}
    assert two_slots.sql.execute("SELECT count(*) FROM slot").fetchone() == (0,)


def test_when_main_is_killed_no_process_stays_and_no_attempt_is_lost(two_slots, receiver):
    receiver.on("/hook", Answer(delay=0.3))
    alice = Alice()
    alice.sends_to(receiver.url("/hook"))
    two_slots.drains(2)
    alice.posts(*[str(n) for n in range(200)])
    receiver.wait_for(20)
    two_slots.signal(signal.SIGKILL)
    two_slots.ends()
    eventually(lambda: two_slots.group() == [], "the orphans to end", two_slots, within=8)
    assert two_slots.leased() == 0
    assert len(receiver.seen) == len(two_slots.events("succeeded"))


def test_a_killed_sentinel_is_replaced(worker, receiver):
    alice = Alice()
    alice.sends_to(receiver.url())
    (drain,) = worker.drains()
    time.sleep(10)  # one that dies at once is left to whoever supervises the command
    os.kill(parent_of(drain), signal.SIGKILL)
    eventually(lambda: drain not in worker.group(), "the old drain to end", worker)
    alice.posts("1")
    worker.delivers_all(within=30)
    worker.signal(signal.SIGTERM)
    assert worker.ends() == 0


@pytest.mark.parametrize("table", ["django_q_ormq", "django_q_schedule", "django_q_task"])
def test_truncated_tables_of_the_task_queue_lose_nothing(database, tmp_path, receiver, table):
    alice = Alice()
    alice.sends_to(receiver.url())
    with Worker(database, tmp_path / "worker.log", DRAIN_SECONDS="2") as worker:
        (first,) = worker.drains()
        owner = database.connect_owner()
        alice.posts("1")
        for _ in range(20):  # whenever a successor waits in there, it is gone
            owner.execute(sql.SQL("TRUNCATE {}").format(sql.Identifier(table)))
            time.sleep(0.2)
        alice.posts("2")
        worker.delivers_all()
        schedules = "SELECT name FROM django_q_schedule"
        wanted = sorted((name,) for name in tasks.SCHEDULES)
        eventually(lambda: sorted(worker.sql.execute(schedules)) == wanted, "one row of each", worker)
        assert len(receiver.seen) == 2
        assert first


def test_another_secret_key_loses_nothing(database, tmp_path, receiver):
    alice = Alice()
    alice.sends_to(receiver.url())
    with Worker(database, tmp_path / "1.log", SECRET_KEY="one") as worker:
        worker.drains()
    for slot in range(3):  # tasks that nobody can read any more
        tasks.enqueue_drain(slot)
    alice.posts("1")
    with Worker(database, tmp_path / "2.log", SECRET_KEY="two") as worker:
        worker.delivers_all(within=30)
    assert [attempt for _, attempt, _ in seen_by(receiver)] == [1]


def test_of_two_drains_for_one_slot_the_second_ends_at_once(worker):
    worker.drains()
    began = time.monotonic()
    assert tasks.drain(0, 30) == "the slot was another's"
    assert time.monotonic() - began < 3


@contextmanager
def away(database):
    """Nobody gets in, and who is in is thrown out."""
    name = sql.Identifier(database.name)
    with maintenance() as owner, psycopg.connect(database.url, autocommit=True) as last:
        owner.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
        last.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()"
        )
        try:
            yield
        finally:
            owner.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))


def test_sends_in_flight_are_settled_when_the_database_is_back(database, worker, receiver):
    receiver.on("/hook", Answer(delay=0.7))
    alice = Alice()
    alice.sends_to(receiver.url("/hook"), timeout=2)
    worker.drains()
    alice.posts(*[str(n) for n in range(10)])
    receiver.wait_for(10)
    with away(database):
        time.sleep(1.5)
    sql = database.connect()
    eventually(lambda: sql.execute("SELECT count(*) FROM outbox").fetchone() == (0,), "an empty outbox")
    types = sql.execute("SELECT type, count(*) FROM event WHERE type LIKE 'delivery.%' GROUP BY 1").fetchall()
    assert types == [("delivery.succeeded", 10)]
    assert len(receiver.seen) == 10
    connections.close_all()  # the test's own was thrown out as well
    alice.posts("after")
    eventually(lambda: len(receiver.seen) == 11, "the next event", within=10)


def test_an_idle_worker_picks_up_at_once(worker, receiver):
    alice = Alice()
    alice.sends_to(receiver.url())
    worker.drains()
    time.sleep(0.5)
    alice.posts(*[str(n) for n in range(20)], pause=0.1)
    worker.delivers_all()
    recorded = dict(
        worker.sql.execute(
            "SELECT data ->> 'event_id', extract(epoch FROM recorded_at)::float8 FROM event"
            " WHERE type = 'event.received'"
        ).fetchall()
    )
    delays = sorted(seen.at - recorded[seen.headers["cl-x-event-id"]] for seen in receiver.seen)
    print(f"{statistics.median(delays) * 1000:.1f} ms, at most {delays[-1] * 1000:.1f} ms")  # noqa: T201 - with -s
    assert statistics.median(delays) < 0.1
    assert delays[-1] < 1.5  # a lost notification costs a poll
