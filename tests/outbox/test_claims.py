"""Claim, settle, release, tend: who has a delivery, and what becomes of it."""

import asyncio
import threading
import time
from uuid import UUID, uuid4

import pytest
from django.test import override_settings

from accounts import operations
from eventstore import connections
from outbox import claims
from outbox.claims import Settlement
from outbox.retry import Verdict
from tests.outbox import people

BIG = 1 << 30


class Engine:
    """The verbs of outbox.claims on a connection of its own, for tests that are not asynchronous."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.connection = self.loop.run_until_complete(connections.connect())

    def __getattr__(self, verb):
        return lambda *args, **kwargs: self.loop.run_until_complete(
            getattr(claims, verb)(self.connection, *args, **kwargs)
        )

    def take(self, rows=100, size=BIG, **options):
        return list(self.claim(rows=rows, size=size, **options).claims)

    def finish(self, taken, verdict=Verdict.SUCCEEDED, delay_ms=0, reason="x"):
        return self.settle([settlement(claim, verdict, delay_ms, reason) for claim in taken])

    def tend(self):
        return self.tended().released

    def tended(self, **options):
        return self.loop.run_until_complete(claims.tend(self.connection, **options))

    def close(self):
        self.loop.run_until_complete(self.connection.close())
        self.loop.close()


def settlement(claim, verdict=Verdict.SUCCEEDED, delay_ms=0, reason="x"):
    data = {"attempt": claim.attempt, "event": str(claim.event_id), "destination": str(claim.destination_id)}
    return Settlement(claim=claim, verdict=verdict, delay_ms=delay_ms, data=data | {"reason": reason})


@pytest.fixture
def engine(database):
    made = Engine()
    yield made
    made.close()


def history(sql, delivery):
    return sql.execute(
        "SELECT version, type, data FROM event WHERE stream_id = %s ORDER BY version", [delivery]
    ).fetchall()


def types(sql, delivery):
    return [kind.removeprefix("delivery.") for _, kind, _ in history(sql, delivery)]


def rows(sql, condition="true"):
    return sql.execute(f"SELECT count(*) FROM outbox WHERE {condition}").fetchone()[0]


def lapse(sql):
    sql.execute("UPDATE outbox SET due_at = clock_timestamp() - interval '1 second' WHERE fence <> 0")


def test_a_claim_brings_all_that_a_sender_needs(database, engine):
    alice = people.account()
    people.events(alice, ["order-1"], body=b'{"a": 1}')
    batch = engine.claim(rows=10, size=BIG)
    (claim,) = batch.claims
    assert (claim.client_event_id, claim.body, claim.attempt, claim.turn) == ("order-1", b'{"a": 1}', 1, 1)
    assert (claim.account_id, claim.destination_id) == (alice.id, alice.destinations[0])
    assert abs(batch.now - time.time()) < 60
    assert batch.lease_seconds == 60


def test_a_claimed_row_is_nobody_elses(database, engine):
    people.events(people.account(), ["1"])
    assert len(engine.take()) == 1
    assert engine.take() == []


def test_no_two_of_many_workers_claim_the_same_row(database, sql):
    people.events(people.account(limit=1000), [str(n) for n in range(200)])
    seen, barrier = [], threading.Barrier(4)

    def work():
        engine = Engine()
        barrier.wait()
        while taken := engine.take(rows=7):
            seen.extend(taken)
        engine.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(seen) == len({claim.delivery_id for claim in seen}) == 200


def test_success_ends_the_delivery_with_one_event(database, engine, sql):
    people.events(people.account(), ["1"])
    (claim,) = engine.take()
    assert engine.finish([claim]) == {(claim.delivery_id, 1)}
    assert rows(sql) == 0
    assert [(version, kind) for version, kind, _ in history(sql, claim.delivery_id)] == [
        (1, "delivery.succeeded")
    ]


def test_a_failure_is_due_again_after_its_delay_and_says_when(database, engine, sql):
    people.events(people.account(), ["1"])
    (claim,) = engine.take()
    engine.finish([claim], Verdict.RETRY, delay_ms=60_000)
    assert engine.take() == []
    ((_, kind, data),) = history(sql, claim.delivery_id)
    due_at = sql.execute(
        "SELECT to_char(due_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') FROM outbox"
    )
    assert (kind, data["next_attempt_at"]) == ("delivery.attempted", due_at.fetchone()[0])
    sql.execute("UPDATE outbox SET due_at = clock_timestamp()")
    (again,) = engine.take()
    assert (again.delivery_id, again.attempt, again.body) == (claim.delivery_id, 2, claim.body)
    engine.finish([again])
    assert types(sql, claim.delivery_id) == ["attempted", "succeeded"]


def test_a_batch_of_verdicts_settles_each_for_itself(database, engine, sql):
    people.events(people.account(limit=100), ["1", "2", "3", "4"])
    taken = engine.take()
    verdicts = list(Verdict)
    engine.settle([settlement(claim, verdict) for claim, verdict in zip(taken, verdicts, strict=True)])
    assert [types(sql, claim.delivery_id) for claim in taken] == [
        ["succeeded"],
        ["attempted"],
        ["exhausted"],
        ["cancelled"],
    ]
    assert rows(sql) == 1


def test_a_lapsed_lease_is_one_recorded_interruption_and_the_next_attempt(database, engine, sql):
    people.events(people.account(), ["1"])
    (lost,) = engine.take()
    lapse(sql)
    (found,) = engine.take()
    assert (found.delivery_id, found.attempt, found.lapses, found.body) == (lost.delivery_id, 2, 1, lost.body)
    assert found.fence > lost.fence
    ((version, kind, data),) = history(sql, lost.delivery_id)
    assert (version, kind, data["attempt"], data["reason"]) == (1, "delivery.interrupted", 1, "interrupted")
    engine.finish([found])
    assert types(sql, lost.delivery_id) == ["interrupted", "succeeded"]


def test_the_late_worker_is_fenced(database, engine, sql):
    people.events(people.account(), ["1"])
    (late,) = engine.take()
    lapse(sql)
    (present,) = engine.take()
    for verdict in Verdict:
        assert engine.finish([late], verdict) == set()
    engine.release([late])
    assert rows(sql, f"fence = {present.fence} AND attempt = 2") == 1
    assert engine.finish([present]) == {(present.delivery_id, 2)}
    assert engine.finish([present]) == set()  # nor is a settle done twice
    assert types(sql, late.delivery_id) == ["interrupted", "succeeded"]


def test_a_lease_that_ended_but_was_not_taken_is_still_settled(database, engine, sql):
    people.events(people.account(), ["1"])
    (claim,) = engine.take()
    lapse(sql)
    assert engine.finish([claim]) == {(claim.delivery_id, 1)}


def suspects(engine, sql, count):
    """So many rows, each of which two workers had when they died."""
    for _ in range(2):
        assert len(engine.take()) == count
        lapse(sql)
    return engine.take()


def test_what_killed_two_workers_is_claimed_alone_and_only_if_asked_for(database, engine, sql):
    alice = people.account(limit=100)
    people.events(alice, ["poison"])
    assert suspects(engine, sql, 1) == []  # its second interruption is on record; it waits to be asked for
    people.events(alice, ["1", "2", "3"])
    (poison,) = engine.take(suspects=True)
    assert (poison.client_event_id, poison.attempt, poison.lapses) == ("poison", 3, 2)
    assert len(engine.take()) == 3
    assert types(sql, poison.delivery_id) == ["interrupted", "interrupted"]
    engine.finish([poison], Verdict.RETRY)
    assert rows(sql, "lapses <> 0") == 0  # a settled attempt clears its name


def test_suspects_go_one_by_one_over_all_workers_and_none_is_forgotten(database, engine, sql):
    people.events(people.account(limit=100), [str(n) for n in range(20)])
    assert suspects(engine, sql, 20) == []
    seen = set()
    for _ in range(20):
        (alone,) = engine.take(suspects=True)
        assert engine.take(suspects=True) == []  # while one is on its way
        engine.finish([alone])
        seen.add((alone.delivery_id, alone.attempt))
    assert {attempt for _, attempt in seen} == {3}
    assert (len(seen), rows(sql)) == (20, 0)


def test_a_suspect_that_lapses_again_goes_on_being_asked_for(database, engine, sql):
    people.events(people.account(), ["1"])
    suspects(engine, sql, 1)
    for attempt in (3, 4, 5):
        (alone,) = engine.take(suspects=True)
        assert alone.attempt == attempt
        lapse(sql)
        assert engine.take() == []


def test_a_released_row_was_never_begun(database, engine, sql):
    people.events(people.account(), ["1"])
    (claim,) = engine.take()
    engine.release([claim])
    (again,) = engine.take()
    assert again.attempt == claim.attempt == 1
    assert history(sql, claim.delivery_id) == []


def test_claims_keep_to_their_budget_of_bytes(database, engine):
    alice = people.account(limit=100)
    people.events(alice, ["1", "2", "3", "4"], body=b'{"a":"' + b"x" * 1000 + b'"}')
    assert len(engine.take(size=2500)) == 2
    assert len(engine.take(size=1)) == 1  # one always goes, however large


def test_a_destination_at_its_cap_is_passed_over(database, engine):
    alice = people.account(destinations=2)
    people.events(alice, ["1"])
    busy, free = alice.destinations
    assert [claim.destination_id for claim in engine.take(busy=[busy])] == [free]


# --- Circuits


def lane(sql, destination):
    row = sql.execute(
        "SELECT resting, opened, probe, crowded, extract(epoch FROM probe_at - clock_timestamp())::float"
        " FROM lane WHERE destination_id = %s",
        [destination],
    ).fetchone()
    return dict(
        zip(
            ("resting", "opened", "probe", "crowded", "probe_in"),
            row or (False, 0, None, False, None),
            strict=True,
        )
    )


def fail(engine, times, delay_ms=0):
    for _ in range(times):
        taken = engine.take(rows=1)
        assert len(taken) == 1
        engine.finish(taken, Verdict.RETRY, delay_ms)


@override_settings(CIRCUIT_FAILURES_IN_A_ROW=5)
def test_failures_in_a_row_open_the_circuit_and_spend_no_more_attempts(database, engine, sql):
    alice = people.account(limit=100)
    people.events(alice, [str(n) for n in range(8)])
    (destination,) = alice.destinations
    fail(engine, 4)
    assert not lane(sql, destination)["resting"]
    fail(engine, 1)
    state = lane(sql, destination)
    assert (state["resting"], state["opened"]) == (True, 1)
    assert 4 < state["probe_in"] <= 5
    assert engine.take() == []
    assert (rows(sql, "held"), sql.execute("SELECT sum(attempt) FROM outbox").fetchone()[0]) == (8, 5)
    assert engine.tend() == 0  # too early for a probe
    people.events(alice, ["late"])
    assert rows(sql, "held") == 9  # what arrives meanwhile is held from the start


@override_settings(CIRCUIT_FAILURES_IN_A_ROW=5)
def test_one_success_in_between_begins_the_row_anew(database, engine, sql):
    alice = people.account(limit=100)
    people.events(alice, [str(n) for n in range(9)])
    fail(engine, 4, delay_ms=60_000)
    engine.finish(engine.take(rows=1))
    fail(engine, 4, delay_ms=60_000)
    assert not lane(sql, alice.destinations[0])["resting"]


@override_settings(CIRCUIT_FAILURES_IN_A_ROW=1000, CIRCUIT_WINDOW_ATTEMPTS=10)
def test_mostly_failures_within_a_minute_open_it_too(database, engine, sql):
    alice = people.account(limit=100)
    people.events(alice, [str(n) for n in range(20)])
    (destination,) = alice.destinations
    fail(engine, 1, delay_ms=60_000)
    engine.finish(engine.take(rows=1))
    fail(engine, 7, delay_ms=60_000)
    assert not lane(sql, destination)["resting"]  # 8 of 9
    fail(engine, 1, delay_ms=60_000)
    assert lane(sql, destination)["resting"]  # 9 of 10


def open_circuit(engine, sql, alice, waiting=4):
    people.events(alice, [str(n) for n in range(waiting)])
    fail(engine, 3)
    assert engine.take() == []  # what was ready is held now
    (destination,) = alice.destinations
    assert lane(sql, destination)["resting"]
    return destination


def probe_is_due(sql):
    sql.execute("UPDATE lane SET probe_at = clock_timestamp() - interval '1 second'")


def test_tending_keeps_its_place_while_another_tends(database, engine):
    place = uuid4()
    with database.connect(autocommit=False) as other:
        other.execute("SELECT pg_advisory_xact_lock(hashtext('pusher.tend'))")
        assert engine.tended(after=place) == claims.Tended(0, place)


@override_settings(CIRCUIT_FAILURES_IN_A_ROW=3)
def test_one_probe_goes_and_its_success_closes_the_circuit(database, engine, sql):
    alice = people.account(limit=100)
    destination = open_circuit(engine, sql, alice)
    probe_is_due(sql)
    assert (engine.tend(), engine.tend()) == (1, 0)
    (probe,) = engine.take()
    assert engine.take() == []
    engine.finish([probe])
    assert not lane(sql, destination)["resting"]
    assert engine.tend() == 3
    assert len(engine.take()) == 3


@override_settings(CIRCUIT_FAILURES_IN_A_ROW=3, CIRCUIT_LAST_PROBE_SECONDS=30)
def test_probes_that_fail_come_at_doubling_distances_up_to_the_last(database, engine, sql):
    alice = people.account(limit=100)
    destination = open_circuit(engine, sql, alice)
    distances = []
    for _ in range(4):
        probe_is_due(sql)
        assert engine.tend() == 1
        engine.finish(engine.take(), Verdict.RETRY)
        engine.take()  # the probe's row, ready again, is held like the others
        distances.append(round(lane(sql, destination)["probe_in"]))
    assert distances == [10, 20, 30, 30]


@override_settings(CIRCUIT_FAILURES_IN_A_ROW=3)
def test_a_probe_whose_worker_died_makes_room_for_the_next(database, engine, sql):
    alice = people.account(limit=100)
    open_circuit(engine, sql, alice)
    probe_is_due(sql)
    engine.tend()
    assert len(engine.take()) == 1
    assert engine.tend() == 0
    sql.execute("UPDATE lane SET probe_at = clock_timestamp() - interval '61 seconds'")
    assert engine.tend() == 1


@override_settings(CIRCUIT_FAILURES_IN_A_ROW=3)
def test_what_killed_two_workers_waits_while_its_destination_rests_and_may_be_the_probe(
    database, engine, sql
):
    alice, bob = people.account(limit=100), people.account()
    people.events(alice, ["1", "2", "3", "4"])
    assert suspects(engine, sql, 4) == []
    people.events(alice, ["5"])
    fail(engine, 3)
    people.events(bob, ["1"])
    assert [claim.account_id for claim in engine.take(suspects=True)] == [bob.id]
    assert rows(sql, "held AND lapses >= 2") == 4
    sql.execute("UPDATE outbox SET due_at = due_at + interval '1 day' WHERE held AND lapses < 2")
    probe_is_due(sql)
    assert engine.tend() == 1
    (probe,) = engine.take(suspects=True)
    assert probe.lapses == 2


@override_settings(CIRCUIT_FAILURES_IN_A_ROW=3)
def test_a_row_held_while_its_lane_closed_is_found(database, engine, sql):
    alice = people.account(limit=100)
    people.events(alice, ["1"])
    sql.execute(
        "UPDATE outbox SET held = true"
    )  # as accept does when it reads the lane just before it closes
    assert engine.tend() == 1
    assert len(engine.take()) == 1


@override_settings(READY_PER_DESTINATION=10)
def test_what_is_too_much_is_held_and_comes_back_in_slices(database, engine, sql):
    alice, bob = people.account(limit=1000), people.account()
    people.events(alice, [str(n) for n in range(70)])
    (crowded,) = alice.destinations
    assert engine.crowd([crowded]) == 50  # a slice
    assert engine.crowd([crowded]) == 10
    assert (rows(sql, "held"), lane(sql, crowded)["crowded"]) == (60, True)
    people.events(alice, ["late"])
    assert rows(sql, "held") == 61
    people.events(bob, ["1"])
    assert [claim.account_id for claim in engine.take(busy=[crowded])] == [bob.id]
    seen = set()
    for _ in range(30):
        taken = engine.take(rows=5)
        engine.finish(taken)
        seen |= {claim.delivery_id for claim in taken}
        engine.tend()
    assert len(seen) == 71
    assert not lane(sql, crowded)["crowded"]


def test_a_few_rows_are_no_crowd(database, engine, sql):
    alice = people.account(limit=100)
    people.events(alice, [str(n) for n in range(20)])
    assert engine.crowd(alice.destinations) == 0
    assert rows(sql, "held") == 0


def test_what_was_paused_waits_and_comes_back(database, engine, sql):
    alice = people.account()
    (destination,) = alice.destinations
    operations.pause_destination(actor=alice.admin, account_id=alice.id, destination_id=destination)
    people.events(alice, ["1", "2"])
    assert (engine.tend(), engine.take()) == (0, [])
    operations.resume_destination(actor=alice.admin, account_id=alice.id, destination_id=destination)
    assert engine.tend() == 2
    assert len(engine.take()) == 2


def later(sql):
    sql.execute("UPDATE outbox SET due_at = clock_timestamp() + interval '10 hours'")


@override_settings(READY_PER_DESTINATION=10)
def test_what_waits_for_its_own_time_keeps_nothing_from_being_sent(database, engine, sql):
    alice = people.account(limit=100)
    people.events(alice, [str(n) for n in range(30)])
    later(sql)
    people.events(alice, ["now"])
    assert engine.crowd(alice.destinations) == 0
    (destination,) = alice.destinations
    operations.pause_destination(actor=alice.admin, account_id=alice.id, destination_id=destination)
    people.events(alice, ["while paused"])
    operations.resume_destination(actor=alice.admin, account_id=alice.id, destination_id=destination)
    assert engine.tend() == 1
    assert {claim.client_event_id for claim in engine.take()} == {"now", "while paused"}


@override_settings(CIRCUIT_FAILURES_IN_A_ROW=3)
def test_rows_of_a_resting_destination_hide_nobody_elses(database, engine, sql):
    alice, bob = people.account(limit=1000), people.account()
    people.events(alice, [str(n) for n in range(60)])
    fail(engine, 3)
    people.events(bob, ["1"])
    assert [claim.account_id for claim in engine.take(rows=10)] == [bob.id]


@override_settings(CIRCUIT_FAILURES_IN_A_ROW=3)
def test_a_claim_says_when_it_left_rows_behind(database, engine, sql):
    alice, bob = people.account(limit=1000), people.account()
    people.events(alice, [str(n) for n in range(60)])
    fail(engine, 3)
    people.events(bob, ["1"])
    batch = engine.claim(rows=2, size=BIG)
    assert (batch.claims, batch.more) == ((), True)  # all that it looked at belongs to one that rests
    while batch.more and not batch.claims:
        batch = engine.claim(rows=2, size=BIG)
    assert [claim.account_id for claim in batch.claims] == [bob.id]
    assert not engine.claim(rows=2, size=BIG).more


@override_settings(CIRCUIT_FAILURES_IN_A_ROW=3)
def test_rows_of_an_inactive_destination_are_not_held_while_it_rests(database, engine, sql):
    alice = people.account(limit=100)
    open_circuit(engine, sql, alice)
    operations.update_destination(
        actor=alice.admin,
        account_id=alice.id,
        destination_id=alice.destinations[0],
        changes={"active": False},
    )
    engine.tend()
    assert len(engine.take()) == 4  # for the worker to cancel


@override_settings(CIRCUIT_FAILURES_IN_A_ROW=3)
def test_failures_beside_a_success_are_no_row(database, engine, sql):
    alice = people.account(limit=100)
    people.events(alice, [str(n) for n in range(10)])
    for claim in engine.take(rows=10):
        beside = settlement(claim, Verdict.RETRY, 60_000)._replace(in_a_row=False)
        engine.settle([beside])
    assert not lane(sql, alice.destinations[0])["resting"]


def test_tending_walks_all_destinations_a_few_hundred_a_call(database, engine, sql):
    alice = people.account(limit=100)
    people.events(alice, ["1"])
    sql.execute(
        "INSERT INTO outbox (account_id, delivery_id, event_id, destination_id, epoch, size, due_at, held)"
        " SELECT account_id, gen_random_uuid(), event_id, gen_random_uuid(), epoch, size, due_at, true"
        " FROM outbox CROSS JOIN generate_series(1, 700)"
    )
    after, calls = claims.FROM_THE_START, 0
    while rows(sql, "held"):
        tended = engine.loop.run_until_complete(claims.tend(engine.connection, after=after))
        after, calls = tended.goes_on_after, calls + 1
    assert calls == 3


# --- What goes


def purge(engine):
    while engine.purge(most=3):
        pass


def test_what_waits_for_a_deleted_destination_is_cancelled_on_record(database, engine, sql):
    alice = people.account(limit=100, destinations=2)
    people.events(alice, [str(n) for n in range(5)])
    gone, stays = alice.destinations
    taken = engine.take(rows=1, busy=[stays])
    operations.delete_destination(actor=alice.admin, account_id=alice.id, destination_id=gone)
    purge(engine)
    assert rows(sql, f"destination_id = '{gone}'") == 1  # the claimed one is its worker's to settle
    assert engine.finish(taken) == {(taken[0].delivery_id, 1)}
    purge(engine)
    assert (rows(sql), rows(sql, f"destination_id = '{stays}'")) == (5, 5)
    cancelled = sql.execute(
        "SELECT data ->> 'reason', count(*) FROM event WHERE type = 'delivery.cancelled' GROUP BY 1"
    )
    assert cancelled.fetchall() == [("destination_deleted", 4)]
    assert sql.execute("SELECT count(*) FROM purge").fetchone()[0] == 0


def test_a_destination_made_active_again_in_time_keeps_what_waits(database, engine, sql):
    alice = people.account()
    people.events(alice, ["1"])
    for active in (False, True):
        operations.update_destination(
            actor=alice.admin,
            account_id=alice.id,
            destination_id=alice.destinations[0],
            changes={"active": active},
        )
    purge(engine)
    assert len(engine.take()) == 1


def test_a_second_order_to_purge_renews_the_first(database, engine, sql):
    alice = people.account()
    people.events(alice, ["1"])
    for active in (False, True, False):
        operations.update_destination(
            actor=alice.admin,
            account_id=alice.id,
            destination_id=alice.destinations[0],
            changes={"active": active},
        )
    purge(engine)
    assert (rows(sql), sql.execute("SELECT count(*) FROM purge").fetchone()[0]) == (0, 0)


def test_a_delivery_whose_payload_is_gone_ends_on_record(database, engine, sql):
    people.events(people.account(), ["1"])
    (delivery,) = sql.execute("SELECT delivery_id FROM outbox").fetchone()
    sql.execute("DELETE FROM payload")
    assert engine.take() == []
    assert rows(sql) == 0
    ((_, kind, data),) = history(sql, delivery)
    assert (kind, data["reason"]) == ("delivery.exhausted", "payload_erased")


def test_a_deleted_account_leaves_history_and_nothing_else(database, engine, sql):
    alice, bob = people.account(limit=100, destinations=2), people.account()
    people.events(alice, [str(n) for n in range(5)])
    people.events(bob, ["1"])
    claimed = engine.take(rows=1)
    operations.delete_account(actor=alice.admin, account_id=alice.id)
    purge(engine)
    payloads = "SELECT count(*) FROM payload WHERE account_id = %s"
    assert sql.execute(payloads, [alice.id]).fetchone()[0] == 5  # never while a delivery is under way
    engine.finish(claimed)
    purge(engine)
    assert sql.execute(payloads, [alice.id]).fetchone()[0] == 0
    assert rows(sql) == rows(sql, f"account_id = '{bob.id}'") == 1
    received = sql.execute(
        "SELECT data -> 'deliveries' FROM event WHERE account_id = %s AND type = 'event.received'", [alice.id]
    )
    ends = {types(sql, delivery)[-1] for (deliveries,) in received for delivery, _ in deliveries}
    assert ends == {"cancelled", "succeeded"}
    assert sql.execute("SELECT count(*) FROM purge").fetchone()[0] == 0


def test_a_lapsed_row_of_a_deleted_account_is_interrupted_and_then_cancelled(database, engine, sql):
    alice = people.account()
    people.events(alice, ["1"])
    (claim,) = engine.take()
    operations.delete_account(actor=alice.admin, account_id=alice.id)
    lapse(sql)
    purge(engine)
    assert types(sql, claim.delivery_id) == ["interrupted", "cancelled"]


# --- A restore


def test_nothing_is_sent_after_a_restore_until_it_is_acknowledged(database, engine, sql):
    from django.core.management import call_command
    from psycopg import DatabaseError

    alice = people.account(limit=100)
    people.events(alice, ["1", "2", "3"])
    (begun,) = engine.take(rows=1)
    (failed,) = engine.take(rows=1)
    engine.finish([failed], Verdict.RETRY, delay_ms=60_000)
    people.restored(database)
    for refused in (engine.take, lambda: engine.finish([begun])):
        with pytest.raises(DatabaseError, match="after_restore"):
            refused()
    call_command("after_restore", verbosity=0)
    engine.finish([begun])  # the old server's worker is fenced
    interrupted = sql.execute(
        "SELECT stream_id, data ->> 'attempt' FROM event WHERE type = 'delivery.interrupted'"
    ).fetchall()
    assert len(interrupted) == 3  # each may have been sent after the dump
    assert dict(interrupted)[begun.delivery_id] == "1"
    assert dict(interrupted)[failed.delivery_id] == "2"
    assert types(sql, begun.delivery_id) == ["interrupted"]
    call_command("after_restore", verbosity=0)  # again, with nothing to do
    assert sql.execute("SELECT count(*) FROM event WHERE type = 'delivery.interrupted'").fetchone()[0] == 3
    sql.execute("UPDATE outbox SET due_at = clock_timestamp()")
    assert sorted(claim.attempt for claim in engine.take()) == [2, 2, 3]


def test_a_row_that_the_acknowledgement_has_not_reached_is_interrupted_by_its_claim(database, engine, sql):
    from django.db import transaction

    from eventstore import history as epochs

    people.events(people.account(), ["1"])
    people.restored(database)
    with transaction.atomic():
        epochs.begin_epoch()
    (claim,) = engine.take()
    assert (claim.attempt, claim.lapses) == (2, 0)
    assert types(sql, claim.delivery_id) == ["interrupted"]


def test_claims_are_plain_records(database, engine):
    people.events(people.account(), ["1"])
    (claim,) = engine.take()
    assert isinstance(claim.delivery_id, UUID)
    assert isinstance(claim, tuple)
    assert isinstance(claim.body, bytes)
