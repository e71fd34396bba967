"""What is one run of the benchmarks? A mode, a scratch folder, and the figures as they come.

A figure knows its floor: what the same machine does, in the same run, when the product is left out of it.
"""

import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self, TypeVar, get_args

from rich.console import Console

T = TypeVar("T")
Mode = Literal["quick", "standard", "long"]
MODES: tuple[Mode, ...] = get_args(Mode)


class Wrong(Exception):
    """What was measured can't be believed: a process died, an event is missing, a limit was met."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value. Times are in ms, `cpu` in microseconds of CPU per event by kind of process,
    `memory` in MB of the largest process of its kind.
    """

    key: str  # stable: targets.toml names it
    label: str  # for people
    value: float
    unit: str  # "1/s", "ms", "bytes", "ratio"
    floor: float | None = None
    floor_label: str = ""
    percentiles: Mapping[str, float] = field(default_factory=dict)
    cpu: Mapping[str, float] = field(default_factory=dict)
    memory: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    more: Mapping[str, float] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """How much of the floor is left, or (of a time) how often the floor: the value by the floor."""
        return self.value / self.floor if self.floor else None

    @property
    def shown(self) -> str:
        return number(self.value) + ("/s" if self.unit == "1/s" else f" {self.unit}")


class Run:
    """Lives as long as the command. `figures` is what it measured, `at_first` what was measured anew since;
    `checks` say whether to believe it; `versions` are of what only a running program can tell.
    """

    def __init__(self, mode: Mode, *, scratch: Path | None = None, console: Console | None = None) -> None:
        self.mode = mode
        self.console = console or Console(highlight=False)
        self.figures: list[Figure] = []
        self.at_first: list[Figure] = []
        self.checks: list[Callable[[], None]] = []
        self.versions: dict[str, str] = {}
        self._scratch = scratch
        if scratch is not None:
            scratch.mkdir(parents=True, exist_ok=True)
        self.folder = Path(tempfile.mkdtemp(prefix="bench-", dir=scratch))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def pick(self, *, quick: T, standard: T) -> T:
        """What suits the mode; a long run does the standard things at the standard size."""
        return quick if self.mode == "quick" else standard

    def say(self, text: str) -> None:
        self.console.print(text, markup=False, soft_wrap=True)

    def set_aside(self, name: str) -> None:
        """Make room for the figures of this name to be measured anew: what they were is kept, and told."""
        mine = [figure for figure in self.figures if group(figure.key) == name]
        self.figures = [figure for figure in self.figures if figure not in mine]
        self.at_first += mine

    def record(self, figure: Figure) -> None:
        """Keep it and print it. Raises Wrong when what it was measured on isn't whole any more."""
        for check in self.checks:
            check()
        if any(known.key == figure.key for known in self.figures):
            raise ValueError(f"{figure.key} was recorded before")
        self.figures.append(figure)
        self.say(f"  {one_line(figure)}")


def group(key: str) -> str:
    """The name of the module in bench.figures that measures the figure of this key."""
    return key.partition(".")[0]


def one_line(figure: Figure) -> str:
    parts = [f"{figure.label}: {figure.shown}"]
    if figure.floor is not None and figure.ratio is not None:
        parts.append(f"floor {number(figure.floor)} ({figure.floor_label}), ratio {figure.ratio:.3g}")
    if figure.percentiles:
        parts.append(", ".join(f"{name} {number(ms)} ms" for name, ms in figure.percentiles.items()))
    if figure.cpu:
        parts.append("CPU us: " + ", ".join(f"{kind} {number(us)}" for kind, us in figure.cpu.items()))
    if figure.memory:
        parts.append("MB: " + ", ".join(f"{kind} {number(mb)}" for kind, mb in figure.memory.items()))
    return "; ".join([*parts, figure.note] if figure.note else parts)


def number(value: float) -> str:
    """Three digits that count, and no more precision than a benchmark has."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) >= 100 or value == int(value):
        return f"{value:.0f}"
    return f"{value:.3g}"
