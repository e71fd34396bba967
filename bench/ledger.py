"""Was every acknowledged event seen, and none twice? And how long after?

The two ledgers are compared whole: what the load was answered, and what the receiver saw. A fast wrong answer
does not count. Sightings of events without an answer are right as long as they are few: the load ends in the
middle of its last requests.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from bench.load import Acknowledged
from bench.receiver import Sighting
from bench.run import Wrong

EXAMPLES = 5


class Lost(Wrong):
    """Acknowledged events were not seen by each of their destinations."""


class Duplicated(Wrong):
    """A delivery was seen more than once, though nothing had failed."""


def check(
    acknowledged: Iterable[Acknowledged],
    sightings: Sequence[Sighting],
    *,
    destinations: int = 1,
    unanswered: int = 0,
) -> None:
    """Each acknowledged event was seen by so many destinations, each delivery once. Raises Lost, Duplicated.

    `unanswered`: how many further events may have been seen.
    """
    times = Counter(sighting.delivery_id for sighting in sightings)
    if twice := [delivery_id for delivery_id, count in times.items() if count > 1]:
        raise Duplicated(f"{len(twice)} deliveries were seen more than once: {_some(twice)}")
    seen = Counter(sighting.event_id for sighting in sightings)
    known = {one.event_id for one in acknowledged}
    if lost := [event_id for event_id in known if seen[event_id] < destinations]:
        raise Lost(f"{len(lost)} of {len(known)} acknowledged events were not delivered: {_some(lost)}")
    if len(others := seen.keys() - known) > unanswered:
        raise Wrong(f"{len(others)} events were delivered, but never acknowledged: {_some(others)}")


def latencies_ms(moments_ns: Mapping[str, int], sightings: Iterable[Sighting]) -> list[float]:
    """From an event's moment to each of its sightings, sorted; events without a moment are left out."""
    return sorted(
        (sighting.at_ns - moment) / 1e6
        for sighting in sightings
        if (moment := moments_ns.get(sighting.event_id)) is not None
    )


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest of these sorted values that `share` of them don't exceed (nearest rank)."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def percentiles(ordered: Sequence[float]) -> dict[str, float]:
    return {"p50": percentile(ordered, 0.5), "p99": percentile(ordered, 0.99)}


def _some(names: Collection[str]) -> str:
    return ", ".join(sorted(names)[:EXAMPLES]) + (", ..." if len(names) > EXAMPLES else "")
