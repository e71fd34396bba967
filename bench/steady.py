"""How fast was it while it was under way, and beside others on a machine whose speed changes?

By what was seen, without the beginning and the end; by turns, so that what disturbs one disturbs all.
"""

from collections.abc import Iterator, Sequence

RAMP = 0.10
TAIL = 0.05


def rate(moments_ns: Sequence[int]) -> float:
    """Events per second of sorted moments, when the first tenth and the last twentieth are left out."""
    first, last = int(len(moments_ns) * RAMP), int(len(moments_ns) * (1 - TAIL)) - 1
    if last <= first or moments_ns[last] == moments_ns[first]:
        raise ValueError(f"{len(moments_ns)} moments make no rate")
    return (last - first) * 1e9 / (moments_ns[last] - moments_ns[first])


def by_turns[T](several: Sequence[T], times: int) -> Iterator[tuple[int, T]]:
    """Each of them `times` times, with the number of the turn (from 0).

    Back and forth, so that a machine that gets slower and slower favours none.
    """
    for turn in range(times):
        for one in several if turn % 2 else reversed(several):
            yield turn, one
