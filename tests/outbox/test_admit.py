"""The limit's law: in no rolling second more than the limit, and no admission withheld without need."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

START = datetime(2026, 1, 1, tzinfo=UTC)
ADMIT = "SELECT * FROM pusher.admit(%s::timestamptz[], %s::int[], %s, %s, %s)"


class Gate:
    """One account's gate, driven by a clock of the test's own."""

    def __init__(self, connection, limit):
        self.connection, self.limit = connection, limit
        self.ran_at, self.admitted = [], []

    def admit(self, wanted, now):
        self.ran_at, self.admitted, granted, remaining, retry_after_ms = self.connection.execute(
            ADMIT, [self.ran_at, self.admitted, self.limit, wanted, now]
        ).fetchone()
        return granted, remaining, retry_after_ms


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    limit=st.integers(1, 8),
    arrivals=st.lists(st.tuples(st.integers(0, 700_000), st.integers(1, 10)), min_size=1, max_size=40),
)
def test_it_is_the_exact_rule(database, limit, arrivals):
    """Against the definition: admit one if the Nth last admitted is over a second old."""
    gate = Gate(database.connect(), limit)
    now, history = START, []
    for pause_us, wanted in arrivals:
        now += timedelta(microseconds=pause_us)
        recent = sum(1 for at in history if now - at <= timedelta(seconds=1))
        granted, remaining, _ = gate.admit(wanted, now)
        assert granted == min(wanted, limit - recent)
        assert remaining == limit - recent - granted
        history += [now] * granted
    gate.connection.close()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(limit=st.integers(100, 3000), pauses=st.lists(st.integers(100, 20_000), min_size=100, max_size=300))
def test_a_large_limit_keeps_few_runs_and_is_never_exceeded(database, limit, pauses):
    gate = Gate(database.connect(), limit)
    now, history = START, []
    for pause_us in pauses:
        now += timedelta(microseconds=pause_us)
        granted, _, _ = gate.admit(limit // 20 + 1, now)
        history.append((now, granted))
        assert sum(many for at, many in history if now - at <= timedelta(seconds=1)) <= limit
        assert len(gate.ran_at) <= 100
    gate.connection.close()


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
