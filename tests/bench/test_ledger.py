"""Is a wrong answer found, however fast it was?"""

import time

import pytest

from bench import ledger
from bench.ledger import Duplicated, Lost
from bench.load import Acknowledged
from bench.receiver import Sighting
from bench.run import Wrong


def acknowledged(*names: str) -> list[Acknowledged]:
    return [Acknowledged(name, sent_ns=0, answered_ns=1_000_000) for name in names]


def seen(event_id: str, *, delivery: str | None = None, at_ns: int = 3_000_000) -> Sighting:
    return Sighting(at_ns, "/", event_id, delivery or f"delivery of {event_id}", attempt=1)


def test_all_that_was_acknowledged_was_seen_once() -> None:
    ledger.check(acknowledged("a", "b"), [seen("b"), seen("a")])


def test_an_event_that_nobody_saw_is_lost_and_named() -> None:
    with pytest.raises(Lost, match=r"1 of 2 acknowledged events were not delivered: b"):
        ledger.check(acknowledged("a", "b"), [seen("a")])


def test_each_destination_must_have_seen_it() -> None:
    both = [seen("a", delivery="first"), seen("a", delivery="second")]
    ledger.check(acknowledged("a"), both, destinations=2)
    with pytest.raises(Lost):
        ledger.check(acknowledged("a"), both, destinations=3)


def test_a_delivery_that_was_seen_twice_is_no_second_destination() -> None:
    with pytest.raises(Duplicated, match="delivery of a"):
        ledger.check(acknowledged("a"), [seen("a"), seen("a")], destinations=2)


def test_only_the_last_requests_may_be_seen_without_an_answer() -> None:
    ledger.check(acknowledged("a"), [seen("a"), seen("late")], unanswered=1)
    with pytest.raises(Wrong, match="never acknowledged: later, never"):
        ledger.check(acknowledged("a"), [seen("a"), seen("never"), seen("later")], unanswered=1)


def test_many_lost_ones_are_counted_and_some_of_them_named() -> None:
    with pytest.raises(Lost, match=r"^9 of 9 .*: 0, 1, 2, 3, 4, \.\.\.$"):
        ledger.check(acknowledged(*map(str, range(9))), [])


def test_a_latency_is_from_the_moment_to_each_sighting() -> None:
    sightings = [seen("a", at_ns=9_000_000), seen("a", at_ns=2_000_000), seen("unknown")]
    assert ledger.latencies_ms({"a": 1_000_000, "unseen": 0}, sightings) == [1.0, 8.0]


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (0.5, 2.0),  # of four the second: half of them don't exceed it
        (0.99, 4.0),
        (0.0, 1.0),
    ],
)
def test_a_percentile_is_one_of_the_values(share: float, expected: float) -> None:
    assert ledger.percentile([1.0, 2.0, 3.0, 4.0], share) == expected


@pytest.mark.slow
def test_half_a_million_are_compared_in_seconds() -> None:
    names = [f"sustained-{number:08d}" for number in range(500_000)]
    known, sightings = acknowledged(*names), [seen(name) for name in names]
    began = time.process_time()
    ledger.check(known, sightings)
    assert time.process_time() - began < 5
