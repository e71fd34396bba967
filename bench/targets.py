"""Which figures satisfy us? Those that meet targets.toml, which says how a target is written down."""

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from operator import ge, gt, le, lt
from pathlib import Path

from bench.run import Figure, number

FILE = Path(__file__).with_name("targets.toml")
OPERATORS: Mapping[str, Callable[[float, float], bool]] = {">=": ge, ">": gt, "<=": le, "<": lt}


@dataclass(frozen=True, slots=True)
class Target:
    """See targets.toml."""

    text: str
    figure: str
    op: str
    value: float
    of: str = "value"
    argued: str = ""
    machine: float = 0.0

    def __str__(self) -> str:
        of = "" if self.of == "value" else f"{self.of} "
        return f"{of}{self.op} {number(self.value)}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a target was compared with, and of which figure: the worst, where several were asked.

    `floor` is that figure's own. `measured` is None where the figure doesn't have what the target names: that
    is a miss, or a typing error would be none.
    """

    target: Target
    figure: str
    measured: float | None
    floor: float | None = None

    @property
    def is_met(self) -> bool:
        return self.measured is not None and OPERATORS[self.target.op](self.measured, self.target.value)

    @property
    def is_missed(self) -> bool:
        """And nothing argues it."""
        return not self.is_met and not self.argument

    @property
    def is_unexpected(self) -> bool:
        """Neither met nor argued beforehand: at another time it may be otherwise."""
        return not self.is_met and not self.standing_argument

    @property
    def argument(self) -> str:
        """Why it may be missed: this machine was too slow, or what targets.toml argues."""
        machine = self.target.machine
        if self.measured is None or not self.floor or self.floor >= machine:
            return self.standing_argument
        share, asked = self.measured / self.floor, self.target.value / machine
        if share < asked:
            return self.standing_argument
        return (
            f"It is asked of a machine that does {number(machine)} itself. This one did "
            f"{number(self.floor)} in the same run: {share:.3f} of it is kept, asked {asked:.3f}."
        )

    @property
    def standing_argument(self) -> str:
        """A figure that isn't there can't be argued."""
        return "" if self.measured is None else self.target.argued

    @property
    def word(self) -> str:
        return "met" if self.is_met else "missed" if self.is_missed else "argued"

    def __str__(self) -> str:
        reason = f" ({self.argument})" if self.word == "argued" else ""
        measured = "not measured" if self.measured is None else number(self.measured)
        return f"{self.word}: {self.target.text}: {measured}, asked {self.target}{reason}"


def targets(file: Path = FILE) -> list[Target]:
    return [Target(**entry) for entry in tomllib.loads(file.read_text())["target"]]


def judge(figures: Sequence[Figure], wanted: Sequence[Target], *, complete: bool = False) -> list[Verdict]:
    """A target whose figure isn't there is not judged, unless the figures are said to be `complete`."""
    verdicts = (_judged(target, figures) for target in wanted)
    return [verdict for verdict in verdicts if complete or verdict.figure]


def _judged(target: Target, figures: Sequence[Figure]) -> Verdict:
    named = [figure for figure in figures if fnmatchcase(figure.key, target.figure)]
    found = [(value, one.key, one.floor) for one in named if (value := measured(one, target.of)) is not None]
    if not found:
        is_misnamed = named and "*" not in target.figure  # a pattern's figures needn't have it
        return Verdict(target, figure=target.figure if is_misnamed else "", measured=None)
    worst = min if target.op in {">=", ">"} else max
    value, key, floor = worst(found, key=lambda one: one[0])
    return Verdict(target, figure=key, measured=value, floor=floor)


def measured(figure: Figure, of: str) -> float | None:
    kind, _, name = of.partition(".")
    if of in {"value", "ratio"}:
        return figure.value if of == "value" else figure.ratio
    parts = {"memory": figure.memory, "cpu": figure.cpu, "more": figure.more}
    return parts[kind].get(name) if kind in parts else figure.percentiles.get(of)
