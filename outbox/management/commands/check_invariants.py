"""`manage.py check_invariants`: do the promises hold? Exit status 1 if one doesn't, 2 if we can't tell."""

import json
from argparse import ArgumentParser, ArgumentTypeError
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import Error
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from outbox import checks, invariants
from outbox.invariants import canaries
from outbox.invariants.books import BooksError
from outbox.invariants.findings import NUMBERS, Finding, State
from outbox.invariants.question import Question

COULD_NOT_TELL = 2


class Command(BaseCommand):
    help = (
        "Check the invariants I1 to I14 on the store, without writing and while it works; and, where they are"
        " given, against what a client and a receiver wrote down. Exit status 0: nothing is violated;"
        " 1: something is; 2: it could not be checked."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        files: dict[str, Any] = {
            "nargs": "+",
            "action": "extend",
            "type": Path,
            "default": [],
            "metavar": "FILE",
        }
        add = parser.add_argument
        add("--ledger", **files, help="JSON lines of a client: every request that it sent")
        add("--sightings", **files, help="JSON lines of a receiver: what it saw, each before its answer")
        add("--healthy", action="store_true", help="nothing failed: no delivery is seen twice, no 5xx is due")
        add(
            "--fault",
            action="append",
            type=_span,
            default=[],
            metavar="FROM/TO",
            help="a 5xx is explained between these times (seconds of Unix time, or ISO 8601)",
        )
        add(
            "--acknowledged-before",
            type=_moment,
            metavar="TIME",
            help="when a restored dump was begun: what came then, up to the new epoch, may be lost",
        )
        add(
            "--due-within",
            type=float,
            default=max(60, 3 * settings.LEASE_SECONDS),
            metavar="SECONDS",
            help="how long something may be due (default: %(default)s, from LEASE_SECONDS)",
        )
        add(
            "--canary",
            action="append",
            type=_canary,
            default=[],
            metavar="TEXT",
            help="a secret that may stand nowhere in the database, nor in --log files",
        )
        add("--log", **files, help="files to look for canaries in")
        add("--only", nargs="+", choices=NUMBERS, default=NUMBERS, metavar="I4", help="these alone")
        add("--json", action="store_true", help="one JSON list instead of lines")

    def handle(self, *args: Any, **options: Any) -> None:
        _refuse_unmigrated()
        question = Question(
            due_within=options["due_within"],
            only=options["only"],
            ledgers=options["ledger"],
            sightings=options["sightings"],
            healthy=options["healthy"],
            faults=options["fault"],
            acknowledged_before=options["acknowledged_before"],
            canaries=options["canary"],
            logs=options["log"],
        )
        try:
            with _progress() as progress:
                found = invariants.check(question, _Steps(progress))
        except (psycopg.Error, BooksError, OSError) as error:
            raise CommandError(f"Could not check: {error}", returncode=COULD_NOT_TELL) from error
        self._tell(found, as_json=options["json"])
        states = {finding.state for finding in found}
        if State.VIOLATED in states:
            raise SystemExit(1)
        if State.FAILED in states:
            raise SystemExit(COULD_NOT_TELL)

    def _tell(self, found: list[Finding], *, as_json: bool) -> None:
        if as_json:
            self.stdout.write(json.dumps([finding.as_json() for finding in found], indent=2))
            return
        for finding in found:
            line = f"{finding.number:<4}{finding.state:<13}{finding.title} ({finding.said()})"
            self.stdout.write(self.style.ERROR(line) if finding.state is State.VIOLATED else line)
            for example in finding.examples:
                self.stdout.write(f"      {example}")
            if finding.violated > len(finding.examples):
                self.stdout.write(f"      and {finding.violated - len(finding.examples)} more")


class _Steps:
    """A bar for each step."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, step: str, done: int, total: int | None) -> None:
        if step not in self._tasks:
            self._tasks[step] = self._progress.add_task(step)
        self._progress.update(self._tasks[step], completed=done, total=total)


def _progress() -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}"),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _refuse_unmigrated() -> None:
    """Raises CommandError."""
    try:
        checks.refuse_unmigrated()
    except (CommandError, Error) as error:
        raise CommandError(f"Could not check: {error}", returncode=COULD_NOT_TELL) from error


def _moment(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is neither seconds of Unix time nor ISO 8601") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _span(text: str) -> tuple[float, float]:
    first, _, last = text.partition("/")
    return _moment(first), _moment(last)


def _canary(text: str) -> str:
    try:
        return canaries.check(text)
    except canaries.UnfitCanary as error:
        raise ArgumentTypeError(str(error)) from None
