"""Is this process alive (`/health/live`), and may it be sent work (`/health/ready`, with reasons if not)?"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
from django.db import DatabaseError, connection
from django.db.migrations.loader import MigrationLoader

from api.body import Receive, Send

LIVE = "/health/live"
READY = "/health/ready"
PATHS = frozenset((LIVE, READY))
KEPT_SECONDS = 1.0
PATIENCE_SECONDS = 2.0
OLDEST_SERVER = 160_000

log = logging.getLogger(__name__)

_SETTINGS = """
    SELECT current_setting('server_version_num')::int,
           current_setting('fsync') = 'on',
           current_setting('full_page_writes') = 'on',
           current_setting('synchronous_commit') <> 'off',
           NOT pg_is_in_recovery()
"""
_REASONS = (
    "the server does not fsync: what it confirms may be lost",
    "the server's full_page_writes is off: a crash may tear pages",
    "synchronous_commit is off: what is confirmed may be lost",
    "the server is a replica: nothing can be written",
)


def unfit() -> list[str]:
    """Why this program must not work on this database, in words for its operator; empty when it may."""
    try:
        return _unfit_server() or _unmigrated()
    except DatabaseError as error:
        return [_first_line("the database does not answer", error)]


def unready() -> list[str]:
    """The same, and whether a restored database still waits for `manage.py after_restore`."""
    return unfit() or _unacknowledged()


def _unfit_server() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(_SETTINGS)
        version, *fit = cursor.fetchone()
    if version < OLDEST_SERVER:
        return [f"PostgreSQL 16 or later is needed, this is {version // 10_000}"]
    return [reason for reason, right in zip(_REASONS, fit, strict=True) if not right]


def _unmigrated() -> list[str]:
    known = set(MigrationLoader(None).disk_migrations or ())
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('django_migrations') IS NOT NULL")
        applied: set[tuple[str, str]] = set()
        if cursor.fetchone() == (True,):
            cursor.execute("SELECT app, name FROM django_migrations")
            applied = set(cursor.fetchall())
    missing = sorted(known - applied)
    if not missing:
        return []
    room, name = missing[0]
    return [f"{len(missing)} migrations are not applied ({room}.{name} first): run manage.py migrate"]


def _unacknowledged() -> list[str]:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pusher.epoch(0::smallint)")
    except DatabaseError as error:
        return [_first_line("no event can be stored", error)]
    return []


def _first_line(what: str, error: Exception) -> str:
    return f"{what}: {(str(error) or type(error).__name__).splitlines()[0]}"


class Health:
    """An ASGI application for PATHS. The database is asked once a second at most, by one thread."""

    def __init__(self, ask: Callable[[], list[str]] = unready) -> None:
        self._ask = ask
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="health")
        self._asking: asyncio.Future[list[str]] | None = None
        self._reasons: list[str] = []
        self._known_until = 0.0

    async def __call__(self, scope: Mapping[str, Any], _receive: Receive, send: Send) -> None:
        reasons = [] if scope["path"] == LIVE else await self._current()
        body = orjson.dumps({"status": "unavailable", "reasons": reasons} if reasons else {"status": "ok"})
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
        ]
        if reasons:
            headers.append((b"retry-after", b"1"))
        await send({"type": "http.response.start", "status": 503 if reasons else 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def close(self) -> None:
        self._thread.shutdown(wait=False)

    async def _current(self) -> list[str]:
        if time.monotonic() < self._known_until:
            return self._reasons
        if self._asking is None:
            self._asking = asyncio.get_running_loop().run_in_executor(self._thread, self._asked)
        # A database that swallows the question keeps the thread, not the caller; the next caller joins.
        done, _ = await asyncio.wait([self._asking], timeout=PATIENCE_SECONDS)
        if not done:
            return [f"the database did not answer within {PATIENCE_SECONDS:g} s"]
        if self._asking is not None:
            self._reasons, self._asking = self._asking.result(), None
            self._known_until = time.monotonic() + KEPT_SECONDS
        return self._reasons

    def _asked(self) -> list[str]:
        try:
            return self._ask()
        except Exception as error:
            log.exception("asking for readiness failed")
            return [_first_line("the check itself failed", error)]
        finally:
            connection.close()
