"""How fast was it while it was under way? By what was seen, without the beginning and the end."""

from collections.abc import Sequence

RAMP = 0.10
TAIL = 0.05


def rate(moments_ns: Sequence[int]) -> float:
    """Events per second of sorted moments, when the first tenth and the last twentieth are left out."""
    first, last = int(len(moments_ns) * RAMP), int(len(moments_ns) * (1 - TAIL)) - 1
    if last <= first or moments_ns[last] == moments_ns[first]:
        raise ValueError(f"{len(moments_ns)} moments make no rate")
    return (last - first) * 1e9 / (moments_ns[last] - moments_ns[first])
