"""What came out? A run as a JSON file, with all that one must know of it, and the table made from it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from bench import machine, pages, plots
from bench.run import Figure, Run, number
from bench.targets import Verdict, judge, targets

FOLDER = Path(__file__).parent / "results"
README = Path(__file__).parent / "README.md"
FRONT = machine.ROOT / "README.md"
BEGIN, END = "<!-- result: made by `python -m bench table` -->\n", "<!-- end of result -->\n"
HEADLINES = (
    "accepts.64.1KB.1",
    "accepts.256.1KB.1",
    "deliveries.1",
    "deliveries.2",
    "sustained.rate",
    "pickup",
    "backlog.million",
    "backlog.dead",
    "history.verify",
    "history.rebuild",
)


@dataclass(frozen=True, slots=True)
class Result:
    """One run, as its file has it. `failed` are the figures that could not be had, with the reason.

    `at_first` are those that missed a target and were measured once more, as they were before.
    """

    mode: str
    date: str
    seconds: float
    commit: str
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    load_before: float
    figures: Sequence[Figure]
    verdicts: Sequence[Verdict]
    only: Sequence[str] = ()
    took: Mapping[str, float] = field(default_factory=dict)  # seconds
    failed: Mapping[str, str] = field(default_factory=dict)
    at_first: Sequence[Figure] = ()

    @property
    def missed_at_first(self) -> list[Verdict]:
        return [verdict for verdict in judge(self.at_first, targets()) if verdict.is_unexpected]

    @property
    def is_good(self) -> bool:
        return not self.failed and not any(verdict.is_missed for verdict in self.verdicts)

    @property
    def file_name(self) -> str:
        minute = datetime.fromisoformat(self.date).strftime("%Y-%m-%d-%H%M")
        return f"{minute}-{self.commit}-{self.mode}.json"

    def save(self, folder: Path = FOLDER) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / self.file_name
        told = asdict(self) | {
            "figures": _told(self.figures),
            "at_first": _told(self.at_first),
            "verdicts": [asdict(verdict) | {"word": verdict.word} for verdict in self.verdicts],
        }
        file.write_bytes(orjson.dumps(told, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        return file


def load(file: Path) -> Result:
    """As it was measured; judged anew, since targets.toml may argue more by now."""
    told = orjson.loads(file.read_bytes())
    figures, at_first = _heard(told["figures"]), _heard(told.get("at_first", ()))
    verdicts = judge(figures, targets(), complete=_is_complete(told["mode"], told["only"]))
    return Result(**told | {"figures": figures, "at_first": at_first, "verdicts": verdicts})


def conclude(
    run: Run,
    *,
    began: datetime,
    load_before: float,
    only: Sequence[str],
    took: Mapping[str, float],
    failed: Mapping[str, str],
) -> Result:
    """What the run measured, judged, and where."""
    return Result(
        mode=run.mode,
        date=began.isoformat(timespec="seconds"),
        seconds=round((datetime.now(UTC) - began).total_seconds(), 1),
        commit=machine.commit(),
        machine=machine.facts(run.folder),
        versions=machine.versions() | run.versions,
        load_before=round(load_before, 2),
        figures=run.figures,
        verdicts=judge(run.figures, targets(), complete=_is_complete(run.mode, only)),
        only=only,
        took=took,
        failed=failed,
        at_first=run.at_first,
    )


def _is_complete(mode: str, only: Sequence[str]) -> bool:
    """Whether every figure is asked for, so that none may be missing."""
    return mode == "long" and not only


def _told(figures: Sequence[Figure]) -> list[dict[str, Any]]:
    return [asdict(figure) | {"ratio": figure.ratio} for figure in figures]


def _heard(told: Sequence[Mapping[str, Any]]) -> list[Figure]:
    return [Figure(**{key: value for key, value in one.items() if key != "ratio"}) for one in told]


# --- the table ----------------------------------------------------------------------------------------------


def publish(result: Result, file: Path, *, readme: Path = README, front: Path = FRONT) -> None:
    """The generated parts of both READMEs and the plots, anew."""
    pages.put(readme, BEGIN, END, part(result, file.name))
    pages.put(front, BEGIN, END, headlines(result))
    folder = readme.parent / "results"
    folder.mkdir(exist_ok=True)
    for name, svg in plots.of(result.figures).items():
        (folder / name).write_text(svg)


def part(result: Result, name: str) -> str:
    """All that stands between the markers."""
    ran = f"[{name}](results/{name}): `python -m bench {result.mode}` at {result.commit}"
    took = f"{result.date}, {result.seconds:.0f} s, load average {result.load_before:g} before."
    about = [f"{ran}, {took}", _listed(result.machine), _listed(result.versions)]
    pictures = [f"![{plots.TITLES[name]}](results/{name})" for name in plots.of(result.figures)]
    return "\n\n".join([*about, *tables(result), *pictures]) + "\n"


def headlines(result: Result) -> str:
    """For who comes to the project's front page: a few figures, and where all of them are."""
    rows = [
        f"| {figure.label} | {figure.shown} | {number(figure.floor)} ({figure.floor_label}) "
        f"| {figure.ratio:.2f} | {_times(figure)} |"
        for key in HEADLINES
        for figure in result.figures
        if figure.key == key and figure.floor is not None and figure.ratio is not None
    ]
    head = "| figure | value | floor in the same run | ratio | p50 / p99, ms |\n|---|---:|---:|---:|---:|\n"
    where = (
        f"`python -m bench {result.mode}` at {result.commit}, {result.date[:10]}. {_listed(result.machine)}"
    )
    return f"{head}{chr(10).join(rows)}\n\n{where}\n"


def tables(result: Result) -> list[str]:
    """The figures, what is asked of many figures at once, and the reasons for what is missed."""
    rows = [_row(figure, result.verdicts) for figure in result.figures]
    found = [
        "| figure | value | floor | ratio | p50 / p99, ms | CPU us per event | peak MB | target | met |\n"
        "|---|---:|---:|---:|---:|---|---|---|---|\n" + "\n".join(rows)
    ]
    everywhere = [verdict for verdict in result.verdicts if "*" in verdict.target.figure]
    if everywhere:
        found.append("\n".join(f"- {verdict}; the worst is {verdict.figure}" for verdict in everywhere))
    if result.missed_at_first:
        lines = [f"- {verdict}; of {verdict.figure}" for verdict in result.missed_at_first]
        found.append("Measured once more at the end of the run, because at first:\n\n" + "\n".join(lines))
    argued = [verdict for verdict in result.verdicts if verdict.word == "argued"]
    if argued:
        found.append("Argued:\n\n" + "\n".join(f"- {one.target.text}: {one.argument}" for one in argued))
    return found


def _row(figure: Figure, verdicts: Sequence[Verdict]) -> str:
    mine = [one for one in verdicts if one.target.figure == figure.key]
    cells = [
        figure.label + (f" ({figure.note})" if figure.note else ""),
        figure.shown,
        "" if figure.floor is None else f"{number(figure.floor)} ({figure.floor_label})",
        "" if figure.ratio is None else f"{figure.ratio:.2f}",
        _times(figure),
        ", ".join(f"{kind} {number(us)}" for kind, us in figure.cpu.items()),
        ", ".join(f"{kind} {number(mb)}" for kind, mb in figure.memory.items()),
        "; ".join(str(one.target) for one in mine),
        "; ".join("yes" if one.is_met else f"**{one.word}**" for one in mine),
    ]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _times(figure: Figure) -> str:
    return " / ".join(
        number(figure.percentiles[name]) for name in ("p50", "p99") if name in figure.percentiles
    )


def _listed(facts: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {fact}" for name, fact in facts.items()) + "."
