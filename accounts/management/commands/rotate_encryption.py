"""Put every stored secret onto the first of ENCRYPTION_KEYS, so that an older key can be taken away."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from accounts import encryption, rotation


class Command(BaseCommand):
    help = (
        "Encrypt stored secrets anew under the first of ENCRYPTION_KEYS. Run it after every process has been "
        "restarted with the new key in first place; older keys may go once it says that none is left."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        unreadable = self.rotate()
        rotation.rotate_answers()
        left = rotation.outdated().count()
        if unreadable:
            listed = ", ".join(unreadable[:10])
            raise CommandError(
                f"{len(unreadable)} destinations can't be decrypted by any of ENCRYPTION_KEYS: {listed}"
            )
        if left:
            raise CommandError(
                f"{left} were written under another key meanwhile: restart those processes, run again"
            )
        self.stdout.write(f"All secrets are under key {encryption.current_key_id()}; the others may go.")

    def rotate(self) -> list[str]:
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        unreadable = []
        with Progress(*columns, console=Console(stderr=True)) as progress:
            bar = progress.add_task("Encrypting anew", total=rotation.outdated().count())
            for step in rotation.rotate():
                progress.advance(bar)
                if step.unreadable:
                    unreadable.append(str(step.destination_id))
        return unreadable
