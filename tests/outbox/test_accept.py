"""Accepting: one outcome per item, on disk, exactly once by event id, never over the limit."""

import asyncio
import itertools
import threading
import time
from uuid import UUID

import psycopg
import pytest

from accounts import operations
from outbox import intake
from outbox.intake import Intake, Outcome, Submission
from tests.outbox import people

BODY = b'{"n": 1}'


def accept(*submissions, intakes=1):
    """All at once, spread over so many receivers; verdicts in the order of the submissions."""

    async def run():
        doors = [Intake() for _ in range(intakes)]
        await asyncio.gather(*(door.start() for door in doors))
        try:
            turns = itertools.cycle(doors)
            return await asyncio.gather(*(next(turns).accept(submission) for submission in submissions))
        finally:
            await asyncio.gather(*(door.stop() for door in doors))

    return asyncio.run(run())


def outcomes(verdicts):
    return [verdict.outcome.value for verdict in verdicts]


def count(connection, table, account):
    query = f"SELECT count(*) FROM {table} WHERE account_id = %s"
    return connection.execute(query, [account.id]).fetchone()[0]


def test_an_accepted_event_is_stored_with_one_row_per_active_destination(database, sql):
    alice = people.account(destinations=3, limit=5)
    operations.update_destination(
        actor=alice.admin,
        account_id=alice.id,
        destination_id=alice.destinations[0],
        changes={"active": False},
    )
    (verdict,) = accept(Submission(alice.token, "order-1", BODY))
    assert verdict.outcome is Outcome.ACCEPTED
    assert (verdict.deliveries, verdict.limit, verdict.remaining) == (2, 5, 4)
    stored = sql.execute(
        "SELECT e.recorded_at, e.data, e.payload_digest = sha256(p.salt || p.body), p.body FROM event e"
        " JOIN payload p ON p.event_id = e.stream_id WHERE e.stream_id = %s",
        [verdict.event],
    ).fetchone()
    received_at, data, digest_fits, body = stored
    assert (received_at, digest_fits, body) == (verdict.received_at, True, BODY)
    assert data["event_id"] == "order-1"
    rows = sql.execute("SELECT delivery_id::text, destination_id::text FROM outbox").fetchall()
    assert {tuple(pair) for pair in data["deliveries"]} == set(rows)
    assert {UUID(destination) for _, destination in rows} == set(alice.destinations[1:])


def test_the_same_id_50_times_at_once_makes_one_event(database, sql):
    alice = people.account(limit=100)
    verdicts = accept(*[Submission(alice.token, "same", BODY)] * 50, intakes=5)
    assert sorted(outcomes(verdicts)) == ["accepted"] + ["duplicate"] * 49
    assert len({(verdict.event, verdict.received_at, verdict.deliveries) for verdict in verdicts}) == 1
    assert (count(sql, "outbox", alice), count(sql, "payload", alice)) == (1, 1)


def test_who_comes_after_several_may_wait_for_more_and_who_comes_alone_does_not(database, sql, monkeypatch):
    alice = people.account(limit=100)
    monkeypatch.setattr(intake, "PACE_SECONDS", 1.0)

    async def run():
        door = Intake()
        await door.start()
        took = []

        async def accept(*names):
            began = time.monotonic()
            await asyncio.gather(*(door.accept(Submission(alice.token, name, BODY)) for name in names))
            took.append(time.monotonic() - began)

        await accept("alone")
        await accept("alone again")
        await accept("one", "of two")
        await accept("as many", "as before")
        await accept("fewer")
        await accept("alone at last")
        await door.stop()
        return took

    alone, again, two, as_many, fewer, last = asyncio.run(run())
    assert max(alone, again, two, as_many, last) < 0.5
    assert 0.5 < fewer < 1.5


def test_of_50_bodies_under_one_id_exactly_one_wins(database, sql):
    alice = people.account(limit=100)
    bodies = [b'{"n": %d}' % n for n in range(50)]
    verdicts = accept(*(Submission(alice.token, "same", body) for body in bodies), intakes=5)
    assert sorted(outcomes(verdicts)) == ["accepted"] + ["conflict"] * 49
    (kept,) = sql.execute("SELECT body FROM payload").fetchone()
    assert kept == bodies[outcomes(verdicts).index("accepted")]


def test_an_id_twice_within_one_batch_makes_one_event(database, sql):
    alice = people.account(limit=100)
    same, other = Submission(alice.token, "twice", BODY), Submission(alice.token, "twice", b"{}")
    assert outcomes(accept(same, same, other)) == ["accepted", "duplicate", "conflict"]
    assert count(sql, "payload", alice) == 1


def test_two_accounts_may_use_the_same_id(database):
    alice, bob = people.account(), people.account()
    assert (
        outcomes(accept(Submission(alice.token, "1", BODY), Submission(bob.token, "1", b"{}")))
        == ["accepted"] * 2
    )


def test_a_limit_of_5_admits_5_of_16_sessions_at_once(database, sql):
    alice = people.account(limit=5)
    verdicts = accept(*(Submission(alice.token, str(n), BODY) for n in range(16)), intakes=16)
    assert sorted(outcomes(verdicts)) == ["accepted"] * 5 + ["limited"] * 11
    assert count(sql, "payload", alice) == 5
    refused = [verdict for verdict in verdicts if verdict.outcome is Outcome.LIMITED]
    assert all(0 < verdict.retry_after_ms <= 1001 and verdict.remaining == 0 for verdict in refused)


@pytest.mark.slow
def test_no_rolling_second_holds_more_than_the_limit(database, sql):
    alice = people.account(limit=5)
    numbers = itertools.count()

    async def flood():
        doors = [Intake() for _ in range(3)]
        await asyncio.gather(*(door.start() for door in doors))
        ends = time.monotonic() + 3.2

        async def client(door):
            while time.monotonic() < ends:
                await door.accept(Submission(alice.token, str(next(numbers)), BODY))

        await asyncio.gather(*(client(door) for door in doors for _ in range(4)))
        await asyncio.gather(*(door.stop() for door in doors))

    asyncio.run(flood())
    admitted = [
        at for (at,) in sql.execute("SELECT recorded_at FROM event WHERE type = 'event.received' ORDER BY 1")
    ]
    assert 15 <= len(admitted) <= 20  # the limit, and all of it
    assert all(
        (later - earlier).total_seconds() > 1 for earlier, later in zip(admitted, admitted[5:], strict=False)
    )


def test_a_known_id_answers_first_and_spends_nothing(database):
    alice = people.account(limit=2)
    first = Submission(alice.token, "1", BODY)
    assert outcomes(accept(first, *[first] * 9, Submission(alice.token, "2", BODY))) == [
        "accepted",
        *["duplicate"] * 9,
        "accepted",
    ]
    assert outcomes(accept(first, Submission(alice.token, "3", BODY))) == ["duplicate", "limited"]


def test_an_erased_payload_makes_its_id_a_conflict(database):
    alice = people.account()
    submission = Submission(alice.token, "gone", BODY)
    accept(submission)
    database.connect().execute("DELETE FROM payload")
    assert outcomes(accept(submission)) == ["conflict"]


def test_what_the_database_refuses_harms_no_neighbour(database, sql):
    alice = people.account(limit=100)
    submissions = [Submission(alice.token, f"n{n}" if n != 7 else "poison\0", BODY) for n in range(20)]
    verdicts = accept(*submissions)
    assert outcomes(verdicts) == ["accepted"] * 7 + ["unavailable"] + ["accepted"] * 12
    assert count(sql, "payload", alice) == 19


def test_a_token_counts_from_the_moment_it_changes(database):
    alice = people.account(limit=100)
    assert outcomes(accept(Submission(alice.token, "1", BODY))) == ["accepted"]
    fresh = people.rotated(alice, overlap_seconds=0)
    assert outcomes(accept(Submission(alice.token, "2", BODY), Submission(fresh, "3", BODY))) == [
        "unauthenticated",
        "accepted",
    ]


def test_an_unknown_token_leaves_nothing_behind(database, sql):
    people.account()
    assert outcomes(accept(Submission(people.unknown_token(), "1", BODY))) == ["unauthenticated"]
    assert sql.execute("SELECT count(*) FROM gate").fetchone()[0] == 0


def test_a_paused_destination_gets_held_rows(database, sql):
    alice = people.account()
    operations.pause_destination(actor=alice.admin, account_id=alice.id, destination_id=alice.destinations[0])
    (verdict,) = accept(Submission(alice.token, "1", BODY))
    assert verdict.deliveries == 1
    assert sql.execute("SELECT held FROM outbox").fetchall() == [(True,)]


def test_an_event_without_destinations_is_kept_and_says_so(database, sql):
    alice = people.account(destinations=0)
    (verdict,) = accept(Submission(alice.token, "1", BODY))
    assert (verdict.outcome, verdict.deliveries) == (Outcome.ACCEPTED, 0)
    assert sql.execute(
        "SELECT data -> 'deliveries' FROM event WHERE stream_id = %s", [verdict.event]
    ).fetchone() == ([],)


@pytest.mark.slow
def test_a_gate_that_is_taken_delays_its_own_account_alone(database):
    alice, bob = people.account(), people.account()
    accept(Submission(alice.token, "0", BODY))
    with database.connect(autocommit=False) as holder:
        holder.execute("SELECT FROM gate WHERE account_id = %s FOR UPDATE", [alice.id])
        began = time.monotonic()
        verdicts = accept(*(Submission(who.token, "1", BODY) for who in (alice, bob)))
        assert outcomes(verdicts) == ["unavailable", "accepted"]
        assert 1.5 < time.monotonic() - began < 2.7


def test_a_stuck_account_does_not_fill_the_batches(database):
    alice, bob = people.account(limit=1000), people.account()
    accept(Submission(alice.token, "0", BODY))
    with database.connect(autocommit=False) as holder:
        holder.execute("SELECT FROM gate WHERE account_id = %s FOR UPDATE", [alice.id])

        async def run():
            door = Intake()
            await door.start()
            stuck = [
                asyncio.create_task(door.accept(Submission(alice.token, str(n), BODY))) for n in range(1500)
            ]
            await asyncio.sleep(0.3)
            began = time.monotonic()
            verdict = await door.accept(Submission(bob.token, "1", BODY))
            took = time.monotonic() - began
            await door.stop()
            await asyncio.gather(*stuck)
            return verdict, took

        verdict, took = asyncio.run(run())
    assert verdict.outcome is Outcome.ACCEPTED
    assert took < 0.5


def test_a_gate_that_is_freed_in_time_lets_in(database):
    alice = people.account()
    accept(Submission(alice.token, "0", BODY))
    holder = database.connect(autocommit=False)
    holder.execute("SELECT FROM gate WHERE account_id = %s FOR UPDATE", [alice.id])
    threading.Timer(0.5, holder.commit).start()
    assert outcomes(accept(Submission(alice.token, "1", BODY))) == ["accepted"]


def test_an_account_deleted_while_an_accept_waits_leaves_nothing_behind(database, sql):
    alice = people.account()
    accept(Submission(alice.token, "0", BODY))
    holder = database.connect(autocommit=False)
    # The deletion holds the gate, as operations.delete_account does until its commit.
    holder.execute("UPDATE gate SET deleted_at = clock_timestamp() WHERE account_id = %s", [alice.id])
    threading.Timer(0.5, holder.commit).start()
    assert outcomes(accept(Submission(alice.token, "1", BODY))) == ["unauthenticated"]
    assert count(sql, "payload", alice) == 1
    assert count(sql, "event_key", alice) == 1


def test_a_deleted_account_accepts_nothing(database):
    alice = people.account()
    operations.delete_account(actor=alice.admin, account_id=alice.id)
    assert outcomes(accept(Submission(alice.token, "1", BODY))) == ["unauthenticated"]


def test_accepting_is_durable_whatever_the_session_says(database):
    alice = people.account()
    connection = database.connect(autocommit=False)
    connection.execute("SET SESSION synchronous_commit = off")
    connection.execute(
        "SELECT * FROM pusher.accept(0::smallint, %s, %b, %s, %b, %b, %b, %b)",
        [
            [alice.token.key_id],
            [alice.token.digest],
            ["1"],
            [BODY],
            [b"salt"],
            [b"d" * 32],
            [UUID(int=1)],
        ],
    )
    assert connection.execute("SHOW synchronous_commit").fetchone() == ("on",)
    connection.rollback()


def test_a_database_that_is_away_is_told_within_two_seconds_and_comes_back(database, monkeypatch):
    alice = people.account()

    async def run():
        door = Intake()
        await door.start()
        try:
            first = await door.accept(Submission(alice.token, "1", BODY))
            with database.connect_owner() as owner:
                owner.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name LIKE 'data-pusher intake %'"
                    " AND datname = current_database()"
                )
            began = time.monotonic()
            broken = await door.accept(Submission(alice.token, "2", BODY))
            took = time.monotonic() - began
            again = await door.accept(Submission(alice.token, "2", BODY))
            return [first, broken, again], took
        finally:
            await door.stop()

    verdicts, took = asyncio.run(run())
    assert outcomes(verdicts) == ["accepted", "unavailable", "accepted"]
    assert took < 2


def test_an_unacknowledged_restore_refuses(database):
    alice = people.account()
    people.restored(database)
    assert outcomes(accept(Submission(alice.token, "1", BODY))) == ["unavailable"]


def test_stopping_finishes_what_is_under_way(database, sql):
    alice = people.account(limit=1000)

    async def run():
        door = Intake()
        await door.start()
        tasks = [asyncio.create_task(door.accept(Submission(alice.token, str(n), BODY))) for n in range(300)]
        await asyncio.sleep(0.005)
        await door.stop()
        return await asyncio.gather(*tasks)

    verdicts = asyncio.run(run())
    assert set(outcomes(verdicts)) <= {"accepted", "unavailable"}
    assert outcomes(verdicts).count("accepted") == count(sql, "payload", alice)


def test_an_id_for_the_same_event_and_destination_never_changes(database, sql):
    event, destination = UUID(int=2**100), UUID(int=7)
    made = {
        sql.execute("SELECT pusher.delivery_id(%s, %s)", [event, destination]).fetchone()[0] for _ in range(3)
    }
    (delivery,) = made
    assert (delivery.version, delivery.variant) == (8, "specified in RFC 4122")
    assert delivery.bytes[:6] == event.bytes[:6]


def test_a_serialization_failure_is_tried_again(database, monkeypatch):
    alice = people.account()
    failures = iter(
        [psycopg.errors.DeadlockDetected("collided"), psycopg.errors.SerializationFailure("collided")]
    )
    real = Intake._execute

    async def collide(self, batch):
        if error := next(failures, None):
            raise error
        return await real(self, batch)

    monkeypatch.setattr(Intake, "_execute", collide)
    assert outcomes(accept(Submission(alice.token, "1", BODY))) == ["accepted"]
