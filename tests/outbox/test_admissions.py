"""What was admitted is remembered for as long as the limit looks back, and then forgotten."""

import pytest
from psycopg import errors

from outbox import worker
from tests.outbox import people

ADMITTED = """
INSERT INTO admission (account_id, ran_at, admitted)
SELECT %s, clock_timestamp() + n * interval '1 second', 5 FROM generate_series(%s::int, %s::int) AS n
"""
COUNT = "SELECT count(*) FROM admission"


def test_a_clock_that_was_set_back_counts_nothing_twice(sql):
    """It passes the same moments again: what ran then would lock the account out all along."""
    alice = people.account(limit=5)
    sql.execute(ADMITTED, [alice.id, 2, 60])
    people.events(alice, ["1", "2"])
    assert sql.execute("SELECT admitted FROM admission").fetchall() == [(2,)]


def test_a_run_of_a_moment_ahead_still_counts(sql):
    alice = people.account(limit=6)
    sql.execute(ADMITTED, [alice.id, 1, 1])
    sql.execute("UPDATE admission SET ran_at = clock_timestamp() + interval '900 ms'")
    people.events(alice, ["1"])
    with pytest.raises(AssertionError, match="limited"):
        people.events(alice, ["2"])


def test_a_slice_of_the_old_is_forgotten_and_the_young_stays(sql):
    alice = people.account()
    sql.execute(ADMITTED, [alice.id, -70, -50])
    forgotten, goes_on_at = sql.execute("SELECT * FROM pusher.forget('-infinity', 4)").fetchone()
    assert forgotten == 4
    forgotten, goes_on_at = sql.execute("SELECT * FROM pusher.forget(%s, 100)", [goes_on_at]).fetchone()
    assert forgotten == 7
    assert sql.execute(COUNT).fetchone() == (10,)
    assert sql.execute("SELECT forgotten FROM pusher.forget(%s, 100)", [goes_on_at]).fetchone() == (0,)


def test_what_another_removes_is_not_waited_for(database, sql):
    alice = people.account()
    sql.execute(ADMITTED, [alice.id, -70, -66])
    with database.connect(autocommit=False) as other:
        assert other.execute("SELECT forgotten FROM pusher.forget('-infinity', 3)").fetchone() == (3,)
        sql.execute("SET lock_timeout = '1s'")
        assert sql.execute("SELECT forgotten FROM pusher.forget('-infinity', 9)").fetchone() == (2,)


def test_the_workers_forget(sql):
    alice = people.account()
    sql.execute(ADMITTED, [alice.id, -70, -66])
    worker.drain(slot=0, seconds=0.5, hand_over=lambda: None)
    assert sql.execute(COUNT).fetchone() == (0,)


def test_a_run_of_nobody_is_refused(sql):
    """The index that finds the old by their age holds runs of one or more."""
    with pytest.raises(errors.CheckViolation):
        sql.execute("INSERT INTO admission VALUES (gen_random_uuid(), clock_timestamp(), 0)")
