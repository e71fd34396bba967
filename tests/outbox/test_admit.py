"""The limit's law: in no rolling second more than the limit, and no admission withheld without need."""

import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SECOND, MILLISECOND = timedelta(seconds=1), timedelta(milliseconds=1)
START = datetime(2026, 1, 1, tzinfo=UTC)
ADMIT = "SELECT * FROM pusher.admit(%s::timestamptz[], %s::int[], %s, %s, %s)"


class Gate:
    """One account's gate, driven by a clock of the test's own."""

    def __init__(self, connection, limit):
        self.connection, self.limit = connection, limit
        self.ran_at, self.admitted = [], []

    def admit(self, wanted, now):
        granted, remaining, retry_after_ms = self.connection.execute(
            ADMIT, [self.ran_at, self.admitted, self.limit, wanted, now]
        ).fetchone()
        if granted:
            self.ran_at.append(now)
            self.admitted.append(granted)
        return granted, remaining, retry_after_ms


def follows_the_definition(gate, arrivals):
    """Admit one if the Nth last admitted is over a second old. `arrivals`: pause in us, how many, limit."""
    now, history = START, []
    for pause_us, wanted, limit in arrivals:
        now += timedelta(microseconds=pause_us)
        gate.limit = limit
        recent = sum(1 for at in history if now - at <= SECOND)
        granted, remaining, retry_after_ms = gate.admit(wanted, now)
        assert granted == min(wanted, max(limit - recent, 0))
        assert remaining == max(limit - recent - granted, 0)
        history += [now] * granted
        if remaining:
            assert retry_after_ms == 0
        else:
            assert retry_after_ms == math.ceil((history[-limit] + SECOND - now) / MILLISECOND) + 1
    gate.connection.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    limit=st.integers(1, 8),
    arrivals=st.lists(st.tuples(st.integers(0, 700_000), st.integers(1, 10)), min_size=1, max_size=40),
)
def test_it_is_the_exact_rule(database, limit, arrivals):
    follows_the_definition(Gate(database.connect(), limit), [(*arrival, limit) for arrival in arrivals])


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    arrivals=st.lists(
        st.tuples(st.integers(0, 300_000), st.integers(1, 10), st.integers(1, 8)), min_size=1, max_size=40
    )
)
def test_it_is_the_exact_rule_while_the_limit_changes(database, arrivals):
    follows_the_definition(Gate(database.connect(), 1), arrivals)


@pytest.mark.slow
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(limit=st.integers(100, 3000), pauses=st.lists(st.integers(100, 20_000), min_size=100, max_size=300))
def test_a_large_limit_is_as_exact(database, limit, pauses):
    gate = Gate(database.connect(), limit)
    follows_the_definition(gate, [(pause_us, limit // 20 + 1, limit) for pause_us in pauses])


def test_who_waits_as_told_is_admitted(database):
    gate = Gate(database.connect(), 5)
    assert gate.admit(3, START)[0] == 3
    granted, remaining, wait = gate.admit(4, START + timedelta(milliseconds=400))
    assert (granted, remaining) == (2, 0)
    assert 600 <= wait <= 602
    assert (
        gate.admit(1, START + timedelta(milliseconds=1000))[0] == 0
    )  # exactly a second is not over a second
    assert gate.admit(9, START + timedelta(milliseconds=400 + wait))[0] == 3


@pytest.mark.parametrize("hours", [1, 24])
def test_a_clock_set_back_locks_nobody_out(database, hours):
    gate = Gate(database.connect(), 5)
    gate.admit(5, START + timedelta(hours=hours))
    assert gate.admit(5, START)[0] == 5
