"""`manage.py export`: an account's sealed history as lines of JSON, on standard output."""

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
        with connections.connect_sync(name="data-pusher export") as connection:
            for _, line in export.lines(connection, options["account"], after=options["after"]):
                self.stdout.write(line)
