"""`python -m bench`: measure, judge, write down. Exit status 1: a target is missed, or a figure failed.

python -m bench quick                      under 3 minutes
python -m bench standard                   under 15; the table in README.md, too
python -m bench long                       and what takes long by its nature
python -m bench quick --only accepts,deliveries
python -m bench table FILE                 README.md's table from a result of before
"""

import argparse
import importlib
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, cast

from rich.console import Console

from bench import machine, results, targets
from bench.run import MODES, Mode, Run, group

FIGURES = ("accepts", "deliveries", "pickup", "sustained", "backlog", "history", "logs", "pinned")
SCRATCH = machine.ROOT / ".data" / "bench"  # where the product keeps its own: a disk, which /tmp may not be
IN_MEMORY = {"tmpfs", "ramfs"}
BUSY = 0.5
STYLES = {"met": "green", "argued": "yellow", "missed": "bold red"}
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
NO_WRK = "wrk is missing, which makes the load: apt-get install wrk, or brew install wrk"


class Measuring(Protocol):
    """A module of bench.figures."""

    NAME: str
    MODES: Collection[str]

    def measure(self, run: Run) -> None: ...


def main(argv: Sequence[str]) -> int:
    arguments = _parser().parse_args(argv)
    if arguments.command == "table":
        return table(arguments.file)
    if shutil.which("wrk") is None:
        print(NO_WRK, file=sys.stderr)
        return 2
    for number in ENDING:
        signal.signal(number, _end)
    return measure(arguments.command, only=arguments.only, folder=arguments.result, scratch=arguments.scratch)


def measure(mode: Mode, *, only: Sequence[str], folder: Path, scratch: Path) -> int:
    """Every figure of the mode in turn; one that fails does not take the others along."""
    began, load_before = datetime.now(UTC), machine.load_average()
    took: dict[str, float] = {}
    failed: dict[str, str] = {}
    with Run(mode, scratch=scratch) as run:
        _warn(run, load_before)

        def take(module: Measuring) -> None:
            run.say(f"\n{module.NAME}")
            since = time.monotonic()
            try:
                module.measure(run)
            except Exception as error:  # noqa: BLE001 - it is told, written down, and the status is 1
                failed[module.NAME] = f"{type(error).__name__}: {error}"
                run.say("".join(traceback.format_exception(error)))
            seconds = time.monotonic() - since
            took[module.NAME] = round(took.get(module.NAME, 0) + seconds, 1)
            run.say(f"  {seconds:.0f} s")

        chosen = _chosen(mode, only)
        for module in chosen:
            take(module)
        for module in chosen if mode != "quick" else ():
            if module.NAME not in failed and _is_unexpected(run, module.NAME):
                run.say(f"\nA target of {module.NAME} is missed. Once more, now that time has passed:")
                run.set_aside(module.NAME)
                take(module)
        result = results.conclude(
            run, began=began, load_before=load_before, only=only, took=took, failed=failed
        )
        file = result.save(folder)
        _sum_up(run.console, result, file)
    if mode != "quick" and not only and not failed:
        results.publish(result, file)
    return 0 if result.is_good else 1


def table(file: Path) -> int:
    result = results.load(file)
    results.publish(result, file)
    _sum_up(Console(highlight=False), result, file)
    return 0 if result.is_good else 1


def _chosen(mode: Mode, only: Sequence[str]) -> list[Measuring]:
    modules = [
        cast("Measuring", importlib.import_module(f"bench.figures.{name}")) for name in only or FIGURES
    ]
    return [module for module in modules if only or mode in module.MODES]


def _is_unexpected(run: Run, name: str) -> bool:
    verdicts = targets.judge(run.figures, targets.targets())
    return any(verdict.is_unexpected and group(verdict.figure) == name for verdict in verdicts)


def _warn(run: Run, load_before: float) -> None:
    if load_before > BUSY:
        run.say(f"This machine is busy (load average {load_before:.2f}): the figures will be too low.")
    if machine.facts(run.folder)["file system"] in IN_MEMORY:
        run.say(f"{run.folder} is in memory, where a durable commit costs nothing: choose another --scratch.")


def _sum_up(console: Console, result: results.Result, file: Path) -> None:
    def tell(line: str, style: str = "") -> None:
        console.print(line, style=style, markup=False, soft_wrap=True)

    tell(f"\n{result.seconds:.0f} s, commit {result.commit}. {file}")
    for verdict in result.verdicts:
        tell(f"  {verdict}", STYLES[verdict.word])
    for verdict in result.missed_at_first:
        tell(f"  at first {verdict}", STYLES["argued"])
    for name, reason in result.failed.items():
        tell(f"  FAILED: {name}: {reason}", "bold red")
    if result.is_good:
        tell("All targets that were judged are met or argued.")
    else:
        missed = sum(verdict.is_missed for verdict in result.verdicts)
        tell(f"{missed} targets missed, {len(result.failed)} figures failed.", "bold red")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Measure Data Pusher on this machine."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for mode in MODES:
        command = commands.add_parser(mode)
        command.add_argument("--only", type=_names, default=[], help=f"some of {', '.join(FIGURES)}")
        command.add_argument("--result", type=Path, default=results.FOLDER, help="folder of the JSON file")
        command.add_argument(
            "--scratch", type=Path, default=SCRATCH, help="where the database lies meanwhile"
        )
    commands.add_parser("table").add_argument("file", type=Path)
    return parser


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(FIGURES):
        raise argparse.ArgumentTypeError(f"no figure is named {', '.join(sorted(unknown))}")
    return [name for name in FIGURES if name in names]


def _end(number: int, _frame: Any) -> None:
    """Unwinds, so that all processes and files go; a second signal would stop that half-way."""
    for ending in ENDING:
        signal.signal(ending, signal.SIG_IGN)
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
