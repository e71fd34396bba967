"""After a dump was restored elsewhere, or the server recovered to a point in time: accept and send again."""

from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand
from django.db import connection, transaction
from rich.progress import Progress

from eventstore import history

SLICE = 1000
FIRST = UUID(int=0)


class Command(BaseCommand):
    help = (
        "Acknowledge a restore: begin a new epoch of the history, and record each waiting delivery as"
        " interrupted, since it may have been sent after the dump was taken. Run it when the old server sends"
        " no more."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        with transaction.atomic():
            epoch = history.begin_epoch()
        if epoch is None:
            self.stdout.write("This database is where its history was written: nothing to acknowledge.")
        else:
            self.stdout.write(f"Epoch {epoch} has begun.")
        # Also without a new epoch: an earlier run may have been cut off here.
        waiting = self.interrupt_waiting()
        self.stdout.write(
            f"{waiting} waiting deliveries looked at; those of older epochs are on record as interrupted."
        )

    def interrupt_waiting(self) -> int:
        account, delivery = FIRST, FIRST
        seen = 0
        with Progress(disable=not self.stdout.isatty()) as progress, connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM outbox")
            task = progress.add_task("waiting deliveries", total=cursor.fetchone()[0])
            while True:
                cursor.execute(
                    "SELECT * FROM pusher.interrupt_waiting(0::smallint, %s, %s, %s)",
                    [account, delivery, SLICE],
                )
                row = cursor.fetchone()
                if row is None:
                    return seen
                account, delivery, looked_at = row
                seen += looked_at
                progress.update(task, advance=looked_at)
