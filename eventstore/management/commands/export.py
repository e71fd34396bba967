"""`manage.py export`: an account's sealed history as lines of JSON, on standard output."""

import os
import sys
from argparse import ArgumentParser
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand

from eventstore import connections, export


class Command(BaseCommand):
    help = (
        "Write an account's sealed history as lines of JSON; a leaf of the proof is the hash of such a line."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--account", type=UUID, required=True, help="the account's id")
        parser.add_argument("--after", type=int, default=0, help="only what comes after this position")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            self._write(options["account"], after=options["after"])
        except BrokenPipeError:
            # Who reads has enough (`| head`). Python flushes once more at its end: into nothing.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)

    def _write(self, account_id: UUID, *, after: int) -> None:
        with connections.connect_sync(name="data-pusher export") as connection:
            for _, line in export.lines(connection, account_id, after=after):
                self.stdout.write(line)
        self.stdout.flush()
