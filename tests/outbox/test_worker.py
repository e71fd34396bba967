"""One drain, in this process, on a real database with a real receiver: what it sends, and what it leaves."""

import asyncio
import threading
import time

import pytest
from django.db import connections

from accounts import operations
from delivery.attempt import Sender
from eventstore import blocks, projector
from outbox import slots, worker
from outbox.worker import Ending, stopping
from tests.outbox.workers import Alice, eventually
from tests.receivers import Answer


@pytest.fixture(autouse=True)
def quick(settings):
    settings.DESTINATION_ALLOW = ["127.0.0.0/8"]
    settings.SHUTDOWN_GRACE_SECONDS = 10


@pytest.fixture
def alice(database):
    return Alice()


def drain(seconds=1.0, hand_over=lambda: None):
    return worker.drain(slot=0, seconds=seconds, hand_over=hand_over)


def events(sql):
    rows = sql.execute("SELECT type, data FROM event WHERE type LIKE 'delivery.%' ORDER BY seq").fetchall()
    return [(kind.removeprefix("delivery."), data) for kind, data in rows]


def types(sql):
    return [kind for kind, _ in events(sql)]


def outbox(sql):
    return sql.execute("SELECT attempt, fence, held FROM outbox ORDER BY due_at").fetchall()


def test_what_was_accepted_is_sent_recorded_and_logged(alice, receiver, sql):
    destination = alice.sends_to(receiver.url("/hook"))
    alice.posts("order-1", body=b'{"total": 1.10}')
    assert drain() is Ending.OVER
    (seen,) = receiver.seen
    assert (seen.method, seen.body, seen.headers["cl-x-event-id"]) == ("POST", b'{"total": 1.10}', "order-1")
    ((kind, data),) = events(sql)
    assert kind == "succeeded"
    assert {
        key: data[key] for key in ("attempt", "destination", "reason", "status", "address", "detail")
    } == {
        "attempt": 1,
        "destination": str(destination),
        "reason": "delivered",
        "status": 200,
        "address": "127.0.0.1",
        "detail": "",
    }
    assert data["duration_us"] > 0
    assert outbox(sql) == []
    assert sql.execute("SELECT status, attempts FROM delivery_log").fetchall() == [("success", 1)]


@pytest.mark.slow
def test_a_failure_is_tried_again_on_schedule_until_the_schedule_ends(alice, receiver, sql):
    receiver.default = Answer(500)
    alice.sends_to(receiver.url(), schedule=[1, 1])
    alice.posts("1")
    drain(seconds=5)
    assert types(sql) == ["attempted", "attempted", "exhausted"]
    assert [data["attempt"] for _, data in events(sql)] == [1, 2, 3]
    assert len(receiver.seen) == 3
    assert outbox(sql) == []
    first, second, _ = receiver.seen
    assert 0.75 < second.at - first.at < 2.6  # 1 s, jittered by 0.2, and up to a poll


@pytest.mark.slow
def test_what_waits_for_a_destination_that_is_gone_is_cancelled(alice, receiver, sql):
    alice.sends_to(receiver.url())
    alice.posts("1")
    sql.execute("DELETE FROM accounts_destination")  # past the operations, which order a purge as well
    drain()
    ((kind, data),) = events(sql)
    assert (kind, data["reason"]) == ("cancelled", "destination_deleted")
    assert "attempt" not in data
    assert receiver.seen == ()


@pytest.mark.slow
def test_what_waits_for_an_inactive_destination_is_cancelled(alice, receiver, sql):
    alice.sends_to(receiver.url())
    alice.posts("1")
    sql.execute("UPDATE accounts_destination SET active = false")
    drain()
    ((kind, data),) = events(sql)
    assert (kind, data["reason"]) == ("cancelled", "destination_inactive")
    assert receiver.seen == ()


@pytest.mark.slow
def test_what_waits_for_a_paused_destination_goes_on_waiting_unspent(alice, receiver, sql):
    alice.sends_to(receiver.url())
    alice.posts("1")
    sql.execute("UPDATE accounts_destination SET paused = true")
    drain()
    assert outbox(sql) == [(0, 0, True)]
    assert events(sql) == []
    assert receiver.seen == ()
    sql.execute("UPDATE accounts_destination SET paused = false")
    drain(2)
    assert types(sql) == ["succeeded"]


@pytest.mark.slow
def test_when_the_last_attempt_lapsed_it_is_over_without_another(alice, receiver, sql):
    alice.sends_to(receiver.url(), schedule=[1, 1])
    alice.posts("1")
    sql.execute("UPDATE outbox SET attempt = 3, fence = 1, due_at = clock_timestamp() - interval '1 second'")
    drain()
    assert types(sql) == ["interrupted", "exhausted"]
    assert events(sql)[1][1]["reason"] == "interrupted"
    assert "attempt" not in events(sql)[1][1]
    assert receiver.seen == ()


@pytest.mark.slow
def test_what_a_lease_has_no_time_for_is_given_back_unsent(alice, receiver, sql, settings):
    settings.LEASE_SECONDS = 7  # of which 5 are the margin
    alice.sends_to(receiver.url(), timeout=1)
    alice.sends_to(receiver.url("/slow"), timeout=2)
    alice.posts("1")
    drain()
    assert [seen.path for seen in receiver.seen] == ["/"]
    assert types(sql) == ["succeeded"]
    assert outbox(sql) == [(0, 0, False)]


@pytest.mark.slow
def test_a_destination_that_says_that_it_is_gone_gets_no_more(alice, receiver, sql):
    receiver.default = Answer(410)
    destination = alice.sends_to(receiver.url())
    alice.posts("1", "2", "3")
    drain()
    active = sql.execute("SELECT active FROM accounts_destination WHERE id = %s", [destination]).fetchone()
    assert active == (False,)
    assert set(types(sql)) <= {"exhausted", "cancelled"}
    assert outbox(sql) == []
    recorded = sql.execute("SELECT data FROM event WHERE type = 'destination.deactivated'").fetchall()
    assert [data["reason"] for (data,) in recorded] == ["gone"]
    seen = len(receiver.seen)
    alice.posts("4")
    drain()
    assert len(receiver.seen) == seen


@pytest.mark.slow
def test_a_destination_whose_secrets_are_unreadable_harms_no_neighbour(alice, receiver, sql):
    broken = alice.sends_to(receiver.url("/broken"))
    alice.sends_to(receiver.url("/well"))
    alice.posts("1")
    garbage = (
        "UPDATE accounts_destination SET encrypted_signing_secret = 'k1.' || repeat('A', 80) WHERE id = %s"
    )
    sql.execute(garbage, [broken])
    drain(0.8)
    assert [seen.path for seen in receiver.seen] == ["/well"]
    assert sorted(types(sql)) == ["attempted", "succeeded"]
    ((_, data),) = [event for event in events(sql) if event[0] == "attempted"]
    assert "decrypted" in data["detail"]


@pytest.mark.slow
def test_no_send_starts_over_two_seconds_after_its_destination_was_deleted(alice, receiver, sql, settings):
    settings.DRAIN_PER_DESTINATION = 4
    receiver.default = Answer(delay=0.1)
    destination = alice.sends_to(receiver.url())
    alice.posts(*[str(n) for n in range(300)])
    deleted = []

    def delete():
        receiver.wait_for(10)
        operations.delete_destination(
            actor=alice.user, account_id=alice.account_id, destination_id=destination
        )
        deleted.append(time.time())
        connections.close_all()

    deleting = threading.Thread(target=delete)
    deleting.start()
    drain(4)
    deleting.join()
    assert max(seen.at for seen in receiver.seen) < deleted[0] + 2
    assert outbox(sql) == []
    assert set(types(sql)) == {"succeeded", "cancelled"}
    assert types(sql).count("succeeded") == len(receiver.seen) < 300


class Gauge:
    """A receiver's script that knows how many requests it is answering at once."""

    def __init__(self, seconds):
        self._seconds = seconds
        self.now = self.most = 0

    async def __call__(self, _reader, writer):
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(self._seconds)
        self.now -= 1
        writer.write(Answer().to_bytes())
        await writer.drain()


@pytest.mark.slow
def test_no_destination_gets_more_at_once_than_its_cap(alice, receiver, sql, settings):
    settings.DRAIN_PER_DESTINATION = 4
    gauge = Gauge(0.02)
    receiver.on("/hook", gauge)
    alice.sends_to(receiver.url("/hook"))
    alice.posts(*[str(n) for n in range(100)])
    drain(2)
    assert gauge.most == 4
    assert len(receiver.seen) == 100
    assert outbox(sql) == []


@pytest.mark.slow
def test_a_slow_destination_leaves_the_others_their_pace(alice, receiver, sql, settings):
    settings.DRAIN_CONCURRENCY = 32
    settings.DRAIN_PER_DESTINATION = 8
    receiver.on("/slow", Answer(delay=2))
    alice.sends_to(receiver.url("/slow"), timeout=5)
    alice.posts(*[f"slow-{n}" for n in range(200)])
    bob = Alice()
    bob.sends_to(receiver.url("/fast"))
    bob.posts(*[f"fast-{n}" for n in range(50)])
    began = time.time()
    drain(3)
    assert len(receiver.at("/fast")) == 50
    assert max(seen.at for seen in receiver.at("/fast")) - began < 2
    assert types(sql).count("interrupted") == 0


@pytest.mark.slow
def test_a_newcomer_does_not_wait_for_the_pile_of_a_quick_destination(alice, receiver, sql, settings):
    """Which is never busy, since all that a claim brings is soon under way; and there was nobody else."""
    settings.DRAIN_CONCURRENCY = 8
    receiver.on("/quick", Answer(delay=0.05))
    alice.sends_to(receiver.url("/quick"))
    alice.posts(*map(str, range(1000)))
    newcomer = Alice()
    newcomer.sends_to(receiver.url("/new"))
    posting = threading.Timer(1.5, newcomer.posts, ["new"])
    posting.start()
    drain(4)
    posting.join()
    before_it = [one.path for one in receiver.seen].index("/new")
    assert before_it < 8 / 0.05 * 3.5
    assert len(receiver.at("/quick")) > before_it  # nor does the pile wait for more of the newcomer's
    assert outbox(sql)


@pytest.mark.slow
def test_the_pile_of_a_paused_destination_is_put_aside_at_once(alice, receiver, sql):
    alice.sends_to(receiver.url("/hook"))
    alice.posts(*map(str, range(1000)))
    sql.execute("UPDATE accounts_destination SET paused = true")
    drain(1.5)
    assert receiver.seen == ()
    assert outbox(sql) == [(0, 0, True)] * 1000


@pytest.mark.slow
def test_what_waits_for_a_dead_destination_keeps_nobody_waiting(alice, receiver, sql, settings):
    settings.DRAIN_CONCURRENCY = 8
    settings.CIRCUIT_FAILURES_IN_A_ROW = 3
    receiver.on("/dead", Answer(500))
    alice.sends_to(receiver.url("/dead"))
    alice.posts(*[f"dead-{n}" for n in range(600)])  # older than Bob's, and more than nine claims hold
    bob = Alice()
    bob.sends_to(receiver.url("/fast"))
    bob.posts(*[f"fast-{n}" for n in range(20)])
    began = time.time()
    drain(4)
    assert len(receiver.at("/fast")) == 20
    assert max(seen.at for seen in receiver.at("/fast")) - began < 3


@pytest.mark.slow
def test_bodies_in_flight_stay_within_the_budget(alice, receiver, sql, settings):
    settings.DRAIN_BYTES = 1 << 20
    gauge = Gauge(0.02)
    receiver.on("/hook", gauge)
    alice.sends_to(receiver.url("/hook"))
    alice.posts(*[str(n) for n in range(20)], body=b'{"pad": "' + b"x" * 400_000 + b'"}')
    drain(3)
    assert len(receiver.seen) == 20
    assert 1 <= gauge.most <= 3


@pytest.mark.slow
def test_what_ended_two_workers_is_sent_with_nothing_beside_it(alice, receiver, sql):
    gauge = Gauge(0.05)
    alone = Gauge(0.2)
    receiver.on("/others", gauge)
    receiver.on("/suspect", alone)
    most_beside = []

    async def suspect(reader, writer):
        most_beside.append(gauge.now)
        await alone(reader, writer)
        most_beside.append(gauge.now)

    receiver.on("/suspect", suspect)
    alice.sends_to(receiver.url("/others"))
    alice.posts(*[str(n) for n in range(60)])
    bob = Alice()
    bob.sends_to(receiver.url("/suspect"), timeout=2)
    bob.posts("suspect")
    sql.execute("UPDATE outbox SET lapses = 2 WHERE account_id = %s", [bob.account_id])
    drain(4)
    assert most_beside == [0, 0]
    assert len(receiver.at("/others")) == 60
    assert set(types(sql)) == {"succeeded"}


@pytest.mark.slow
def test_many_that_ended_two_workers_follow_each_other_when_nothing_else_waits(alice, receiver, sql):
    receiver.on("/hook", Answer(delay=0.03))
    alice.sends_to(receiver.url("/hook"))
    alice.posts(*[str(n) for n in range(100)])
    sql.execute("UPDATE outbox SET lapses = 2")
    drain(3)
    assert len(receiver.seen) >= 35  # with the pause that others get after each: 20


@pytest.mark.slow
def test_an_outcome_that_can_not_be_written_harms_no_neighbour(alice, receiver, sql, monkeypatch):
    send = Sender.send

    async def with_a_poisonous_detail(self, message, target, *, now):
        outcome = await send(self, message, target, now=now)
        return outcome._replace(detail="\0") if message.event_id == "poison" else outcome

    monkeypatch.setattr(Sender, "send", with_a_poisonous_detail)
    alice.sends_to(receiver.url())
    alice.posts("1", "poison", "2")
    drain()
    assert types(sql) == ["succeeded"] * 3
    assert {data["detail"] for _, data in events(sql)} == {""}


def test_a_fault_in_one_send_leaves_the_others(alice, receiver, sql, monkeypatch):
    send = Sender.send

    async def broken(self, message, target, *, now):
        if message.event_id == "broken":
            raise RuntimeError("nobody foresaw this")
        return await send(self, message, target, now=now)

    monkeypatch.setattr(Sender, "send", broken)
    alice.sends_to(receiver.url())
    alice.posts("1", "broken", "2")
    drain()
    assert types(sql) == ["succeeded"] * 2
    ((attempt, fence, _),) = outbox(sql)
    assert attempt == 1
    assert fence > 0  # it lapses, and the next claim says so


@pytest.mark.slow
def test_housekeeping_that_fails_stops_no_delivery(alice, receiver, sql, monkeypatch):
    async def fails(*_, **__):
        raise RuntimeError("out of order")

    monkeypatch.setattr(blocks, "seal", fails)
    monkeypatch.setattr(projector, "catch_up", fails)
    alice.sends_to(receiver.url())
    alice.posts("1")
    drain()
    assert types(sql) == ["succeeded"]


def test_when_its_time_is_over_the_slot_is_free_before_the_successor_is_told(database):
    free = []

    def look():
        free.extend(slots.free(1))
        connections.close_all()

    assert drain(0.2, hand_over=look) is Ending.OVER
    assert free == [0]


@pytest.mark.slow
def test_a_slow_last_send_does_not_keep_the_successor_waiting(alice, receiver, sql):
    receiver.default = Answer(delay=3)
    alice.sends_to(receiver.url(), timeout=5)
    alice.posts("1")
    told = []
    began = time.monotonic()
    assert drain(0.5, hand_over=lambda: told.append(time.monotonic() - began)) is Ending.OVER
    assert told[0] < 2.5
    assert time.monotonic() - began > 3
    assert types(sql) == ["succeeded"]


def test_told_to_stop_it_has_no_successor(database, monkeypatch):
    told = []
    monkeypatch.setattr(stopping, "requested", lambda: True)
    assert drain(30, hand_over=lambda: told.append(1)) is Ending.TOLD
    assert told == []
    assert slots.free(1) == [0]


@pytest.mark.slow
def test_a_drain_whose_slot_went_to_another_ends(database, sql):
    def steal():
        taken = "UPDATE slot SET owner = gen_random_uuid() RETURNING slot"
        eventually(lambda: sql.execute(taken).fetchall(), "a slot to steal")

    thief = threading.Thread(target=steal)
    thief.start()
    assert drain(30) is Ending.LOST
    thief.join()
    assert slots.free(1) == []  # the thief's, not released by the loser


def test_a_taken_slot_is_left_to_its_owner(database, sql):
    sql.execute("INSERT INTO slot VALUES (0, gen_random_uuid(), clock_timestamp() + interval '5 seconds')")
    began = time.monotonic()
    assert drain(30) is Ending.TAKEN
    assert time.monotonic() - began < 2


def test_a_lapsed_slot_is_anybodys(database, sql):
    sql.execute("INSERT INTO slot VALUES (0, gen_random_uuid(), clock_timestamp() - interval '1 second')")
    assert slots.free(2) == [0, 1]
    assert drain(0.2) is Ending.OVER
