"""What is asked of the invariants, and of what?"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from outbox.invariants.findings import NUMBERS

type Progress = Callable[[str, int, int | None], None]
"""A step's name, how much of it is done, and of how much (None: nobody knows)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked. `faults` and `acknowledged_before` are Unix seconds; `only` names invariants."""

    due_within: float
    only: Collection[str] = NUMBERS
    ledgers: Sequence[Path] = ()
    sightings: Sequence[Path] = ()
    healthy: bool = False  # no fault was injected, and every destination answered well
    faults: Sequence[tuple[float, float]] = ()
    acknowledged_before: float | None = None  # what was acknowledged later, up to the restore, may be lost
    canaries: Sequence[str] = ()
    logs: Sequence[Path] = ()
