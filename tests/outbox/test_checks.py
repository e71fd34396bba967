"""Settings that contradict each other are refused, each by its number; the defaults agree."""

import pytest

from outbox import checks


def found(settings, **changes):
    for name, value in changes.items():
        if name.isupper():
            setattr(settings, name, value)
        else:
            settings.Q_CLUSTER = {**settings.Q_CLUSTER, name: value}
    return [message.id for message in checks.settings_agree()]


def test_the_defaults_agree(settings):
    assert found(settings) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"LEASE_SECONDS": 35}, "outbox.E001"),  # as long as deadline and margin together
        ({"LEASE_MARGIN_SECONDS": 30}, "outbox.E001"),
        ({"DELIVERY_TIMEOUT": 31}, "outbox.E002"),  # over the most that a destination may ask for
        ({"LEASE_SECONDS": 300}, "outbox.E003"),  # as long as a task may take
        ({"DRAIN_SECONDS": 256}, "outbox.E004"),  # the drain and its grace would not fit the task
        ({"SHUTDOWN_GRACE_SECONDS": 56}, "outbox.E004"),
        ({"retry": 300}, "outbox.E005"),  # the task would come again while it runs
        ({"DRAIN_SLOTS": 3}, "outbox.E006"),  # one worker too few
        ({"guard_cycle": 0.3}, "outbox.E007"),  # Q2 never counts down to exactly 0
        ({"ack_failures": False}, "outbox.E008"),
        ({"max_attempts": 0}, "outbox.E008"),
        ({"MAX_EVENT_BYTES": 64 << 20}, "outbox.E009"),  # such an event could never be claimed
        ({"CIRCUIT_FIRST_PROBE_SECONDS": 301}, "outbox.E010"),
        ({"RETRY_SCHEDULE": [5, 0]}, "outbox.E011"),
        ({"RETRY_JITTER": 1}, "outbox.E011"),
        ({"SHUTDOWN_GRACE_SECONDS": 34}, "outbox.W001"),  # a long send would not end in time
    ],
)
def test_a_contradiction_is_named(settings, changes, expected):
    assert found(settings, **changes) == [expected]
