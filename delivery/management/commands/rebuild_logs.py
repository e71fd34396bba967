"""`manage.py rebuild_logs`: build the logs anew, compare, switch. Exit status 1 when they differ."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from config import owner
from delivery import rebuild


class Command(BaseCommand):
    help = "Build the delivery logs anew beside the live ones, compare row for row, and switch. Nobody waits."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--no-compare",
            action="store_false",
            dest="compare",
            help="switch even if they differ: for logs known to be wrong, or made by an older projection",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        try:
            with owner.acting(), Progress(*columns, console=Console(stderr=True)) as progress:
                built = rebuild.rebuild(_Bars(progress), compare=options["compare"])
        except rebuild.RebuildError as error:
            raise CommandError(f"{error}. The live logs are as they were.") from error
        found = "rebuilt logs equal the live ones" if options["compare"] else "rebuilt logs, not compared"
        self.stdout.write(f"{found}: {built.rows} deliveries, now version {built.version}")
        for table in built.left:
            self.stdout.write(f"{table} is still in use; the next rebuild removes it")


class _Bars:
    """A bar for each step."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, step: str, done: int, total: int) -> None:
        if step not in self._tasks:
            self._tasks[step] = self._progress.add_task(step)
        self._progress.update(self._tasks[step], completed=done, total=total)
