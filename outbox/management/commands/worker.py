"""`manage.py worker`: deliver what was accepted, until SIGTERM or Ctrl-C."""

from typing import Any

from django.conf import settings
from django.core.checks import run_checks
from django.core.management.base import BaseCommand, CommandError, CommandParser

from outbox import checks, cluster


class Command(BaseCommand):
    help = "Delivers events to their destinations, retries, and keeps the history sealed. Stops on SIGTERM."
    requires_system_checks: list[str] = []  # its own way to say it: in one line

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--slots", type=int, help=f"drains at once (default: {settings.DRAIN_SLOTS})")

    def handle(self, *args: Any, slots: int | None = None, **options: Any) -> None:
        if slots is not None:
            settings.DRAIN_SLOTS = slots
            settings.Q_CLUSTER["workers"] = slots + checks.SPARE_WORKERS
        self._refuse_unfit()
        raise SystemExit(cluster.serve())

    def _refuse_unfit(self) -> None:
        errors = [message for message in run_checks() if message.is_serious()]
        if errors:
            raise CommandError("; ".join(f"{error.msg} ({error.id})" for error in errors))
        checks.refuse_unmigrated()
