"""The command around Django-Q2: what it refuses, and how it heals the task queue."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from django.utils.module_loading import import_string
from django_q.models import OrmQ, Schedule
from psycopg import sql

from outbox import slots, tasks
from outbox.cluster import ASK_AGAIN_SECONDS, STUCK_SECONDS, Watch
from tests import databases
from tests.outbox.workers import BASE, QUICK, Alice, Worker, eventually, parent_of


def refusal(database, **environment):
    """What the command says when it does not start."""
    done = subprocess.run(
        [sys.executable, "manage.py", "worker"],
        cwd=BASE,
        env={**database.environment, **QUICK, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


@pytest.mark.slow
def test_contradicting_settings_are_refused_in_one_line(database):
    assert "outbox.E001" in refusal(database, LEASE_SECONDS="2")


@pytest.mark.slow
def test_a_server_that_is_not_durable_is_refused_in_one_line(database):
    with databases.maintenance() as owner:
        statement = sql.SQL("ALTER DATABASE {} SET synchronous_commit = off")
        owner.execute(statement.format(sql.Identifier(database.name)))
    assert "synchronous_commit is off" in refusal(database)


@pytest.mark.slow
def test_a_database_without_the_migrations_is_refused_in_one_line(database):
    owner = database.connect_owner()
    owner.execute("DELETE FROM django_migrations WHERE app = 'outbox'")
    assert "manage.py migrate" in refusal(database)


def queued():
    return OrmQ.objects.count()


def test_each_empty_slot_gets_a_drain_and_is_not_asked_for_again_at_once(database, settings):
    settings.DRAIN_SLOTS = 3
    watch = Watch()
    watch.look(100)
    assert queued() == 3
    watch.look(100 + ASK_AGAIN_SECONDS - 1)
    assert queued() == 3
    watch.look(100 + ASK_AGAIN_SECONDS)
    assert queued() == 6


def test_first_runs_end_one_after_another(settings):
    settings.DRAIN_SLOTS = 4
    settings.DRAIN_SECONDS = 240
    assert [tasks.first_run_seconds(slot) for slot in range(4)] == [60, 120, 180, 240]


def test_a_slot_that_stays_empty_means_that_the_cluster_is_stuck(database, settings):
    settings.DRAIN_SLOTS = 1
    watch = Watch()
    watch.look(100)
    watch.look(100 + STUCK_SECONDS)
    assert not watch.stuck
    watch.look(100 + STUCK_SECONDS + 1)
    assert watch.stuck


def test_a_slot_that_was_taken_in_between_is_no_reason(database, settings):
    settings.DRAIN_SLOTS = 1
    sql = database.connect()
    watch = Watch()
    watch.look(100)
    sql.execute("INSERT INTO slot VALUES (0, gen_random_uuid(), clock_timestamp() + interval '1 minute')")
    watch.look(110)
    sql.execute("DELETE FROM slot")
    watch.look(100 + STUCK_SECONDS + 1)
    assert not watch.stuck


def test_the_watchdog_and_the_sweep_are_scheduled_exactly_once(database):
    tasks.ensure_schedules()
    kept = list(Schedule.objects.order_by("pk"))
    assert {schedule.func for schedule in kept} == {
        "outbox.tasks.ensure_drains",
        "accounts.housekeeping.sweep",
    }
    for schedule in kept:
        assert callable(import_string(schedule.func))
        Schedule.objects.create(
            name=schedule.name, func=schedule.func, schedule_type=schedule.schedule_type, minutes=1
        )
    tasks.ensure_schedules()
    assert list(Schedule.objects.order_by("pk")) == kept


def test_the_watchdog_asks_for_the_missing_drains_alone(database, settings):
    settings.DRAIN_SLOTS = 3
    sql = database.connect()
    sql.execute("INSERT INTO slot VALUES (1, gen_random_uuid(), clock_timestamp() + interval '1 minute')")
    assert slots.free(3) == [0, 2]
    assert tasks.ensure_drains() == [0, 2]
    assert queued() == 2


@pytest.mark.slow
def test_a_pool_for_the_web_does_not_hurt_the_worker(database, tmp_path, receiver):
    alice = Alice()
    alice.sends_to(receiver.url())
    alice.posts("1")
    with Worker(database, tmp_path / "worker.log", DATABASE_POOL="1") as worker:
        worker.delivers_all()
        worker.signal(signal.SIGTERM)
        assert worker.ends() == 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the memory's high-water mark from /proc")
def test_memory_stays_below_200_mb_whatever_the_backlog_and_the_answers(database, tmp_path, receiver):
    async def endless(reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n")
        while True:
            writer.write(b"x" * (1 << 16))
            await writer.drain()

    receiver.on("/endless", endless)
    alice = Alice()
    alice.sends_to(receiver.url("/well"))
    alice.sends_to(receiver.url("/endless"))
    body = b'{"pad": "' + b"x" * (1_000_000) + b'"}'
    for start in range(0, 150, 10):
        alice.posts(*[str(n) for n in range(start, start + 10)], body=body)
    with Worker(database, tmp_path / "worker.log") as worker:
        (drain,) = worker.drains()
        eventually(lambda: len(worker.events("succeeded")) == 150, "all that can be", worker, within=60)
        status = Path(f"/proc/{drain}/status").read_text().splitlines()
        (peak,) = [int(line.split()[1]) for line in status if line.startswith("VmHWM")]
    assert peak < 200_000, f"{peak} kB"


@pytest.mark.slow
def test_a_queue_whose_lock_died_with_its_holder_is_replaced(database, tmp_path, receiver):
    alice = Alice()
    alice.sends_to(receiver.url())
    with Worker(database, tmp_path / "worker.log") as worker:
        (drain,) = worker.drains()
        sentinel = parent_of(drain)
        time.sleep(1)
        # One of the idle ones waits for a task, with the lock of the queue in its hand.
        for pid in worker.group():
            if pid not in (worker.process.pid, sentinel, drain):
                os.kill(pid, signal.SIGKILL)
        os.kill(drain, signal.SIGKILL)
        alice.posts("1")
        worker.delivers_all(within=80)
        assert worker.process.poll() is None
        worker.signal(signal.SIGTERM)
        assert worker.ends() == 0
