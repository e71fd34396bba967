"""How does the web side start? The database is judged first; then this process becomes granian."""

import os
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import connections

from api import health

BACKLOG = 2048
# The supervisor kills what outlives its grace; the workers must be gone before that.
HEAD_START_SECONDS = 5


class Command(BaseCommand):
    help = "Serves the receiver, the API and the documents on HOST:PORT."

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("--host", default=settings.HOST)
        parser.add_argument("--port", type=int, default=settings.PORT)
        parser.add_argument("--workers", type=int, default=settings.WEB_WORKERS)

    def handle(self, *args: Any, host: str, port: int, workers: int, **options: Any) -> None:
        reasons = health.unfit()
        connections.close_all()
        if reasons:
            raise CommandError("Can't serve: " + "; ".join(reasons))
        sys.stdout.flush()
        # A pool is right where threads serve requests, and wrong in processes that fork (Django-Q2).
        environment = os.environ | {"DATABASE_POOL": "1", "DJANGO_SETTINGS_MODULE": "config.settings"}
        os.execve(sys.executable, _argv(host=host, port=port, workers=workers), environment)  # noqa: S606 (no shell is wanted)


def _argv(*, host: str, port: int, workers: int) -> list[str]:
    return [
        *(sys.executable, "-m", "granian", "config.asgi:application"),
        *("--working-dir", str(settings.BASE_DIR)),
        *("--interface", "asgi", "--loop", "uvloop", "--http", "1", "--no-ws"),
        *("--host", host, "--port", str(port)),
        *("--workers", str(workers), "--backlog", str(BACKLOG), "--backpressure", str(BACKLOG)),
        *("--respawn-failed-workers", "--respawn-interval", "1"),
        *("--workers-kill-timeout", str(max(1, settings.SHUTDOWN_GRACE_SECONDS - HEAD_START_SECONDS))),
        *("--log-level", "warning"),
    ]
