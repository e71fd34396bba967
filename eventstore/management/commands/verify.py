"""`manage.py verify`: is the sealed history whole? Exit status 1 when it isn't."""

import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from eventstore import connections, verify


class Command(BaseCommand):
    help = "Verify the sealed history: every hash, root and link, order and count. Exit status 1 on damage."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--head",
            metavar="BLOCK:HASH",
            help="a head noted earlier, kept elsewhere: only that shows that the end was not cut off",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            head = verify.Head.parse(options["head"]) if options["head"] else None
        except verify.HeadError as error:
            raise CommandError(f"--head: {error}") from error
        with connections.connect_sync(name="data-pusher verify") as connection, _progress() as progress:
            task = progress.add_task("events", total=None)
            report = verify.verify(
                connection,
                head=head,
                progress=lambda done, total: progress.update(task, completed=done, total=total),
            )
        for damage in report.damages:
            self.stderr.write(self.style.ERROR(str(damage)))
        if report.damages:
            self.stderr.write(self.style.ERROR(f"The history is damaged, first at {report.damages[0].where}"))
            sys.exit(1)
        self.stdout.write(
            f"verified {report.events} events in {report.blocks} blocks, head {report.head or 'none yet'}\n"
            f"payloads that match their digests: {report.payloads}; events not yet sealed: {report.unsealed}"
        )


def _progress() -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*columns, console=Console(stderr=True), transient=True)
