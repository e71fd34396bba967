"""How does the web side start? The database is judged first; then this process becomes granian."""

import os
import resource
import sys
import tempfile
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import connections

from api import health, metrics

BACKLOG = 2048
# Each connection counts, also one that says nothing: there is room for many, and none stays silent for long.
# Together with the receiver's SMALL_BYTES this bounds the memory that bodies take.
CONNECTIONS = 8192
SILENT_MS = 5_000  # before a request's head is complete, and between two requests
OTHER_FILES = 512
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
        _allow_files()
        sys.stdout.flush()
        # A pool is right where threads serve requests, and wrong in processes that fork (Django-Q2).
        environment = os.environ | {
            "DATABASE_POOL": "1",
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "LOG_FORMAT": settings.LOG_FORMAT,
        }
        environment.pop(metrics.FOLDER, None)
        if workers > 1:
            # Fresh: what is left of other processes would count on.
            environment[metrics.FOLDER] = tempfile.mkdtemp(prefix="data-pusher-metrics-")
        os.execve(sys.executable, _argv(host=host, port=port, workers=workers), environment)  # noqa: S606 (no shell is wanted)


def _allow_files() -> None:
    """As many open sockets as connections, where the system lets us: shells often begin with 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS + OTHER_FILES
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _argv(*, host: str, port: int, workers: int) -> list[str]:
    return [
        *(sys.executable, "-m", "granian", "config.asgi:application"),
        *("--working-dir", str(settings.BASE_DIR)),
        *("--interface", "asgi", "--loop", "uvloop", "--http", "1", "--no-ws"),
        *("--host", host, "--port", str(port)),
        *("--workers", str(workers), "--backlog", str(BACKLOG)),
        *("--backpressure", str(CONNECTIONS), "--http1-header-read-timeout", str(SILENT_MS)),
        *("--respawn-failed-workers", "--respawn-interval", "1"),
        *("--workers-kill-timeout", str(max(1, settings.SHUTDOWN_GRACE_SECONDS - HEAD_START_SECONDS))),
        *("--log-level", "warning", "--log-config", str(settings.BASE_DIR / "config" / "granian.json")),
    ]
