"""Is this process alive (`/health/live`), and may it be sent work (`/health/ready`, with reasons if not)?"""

import asyncio
import functools
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
from django.db import DatabaseError, connection
from django.db.migrations.loader import MigrationLoader

from api.body import Receive, Send
from config import fitness

LIVE = "/health/live"
READY = "/health/ready"
PATHS = frozenset((LIVE, READY))
RESTORED = "DP001"  # pusher.epoch
KEPT_SECONDS = 1.0
PATIENCE_SECONDS = 2.0

log = logging.getLogger(__name__)


def unfit() -> list[str]:
    """Why this program must not work on this database, in words for its operator; empty when it may."""
    try:
        return _unfit_server() or _unmigrated()
    except fitness.UnfitServer as error:
        return [str(error)]
    except DatabaseError as error:
        return [_named("the database does not answer", error)]


def unready() -> list[str]:
    """The same, and whether a restored database still waits for `manage.py after_restore`."""
    return unfit() or _unacknowledged()


def _unfit_server() -> list[str]:
    connection.ensure_connection()
    fitness.check(connection.connection)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_is_in_recovery()")
        replica = cursor.fetchone() == (True,)
    return ["the server is a replica: nothing can be written"] if replica else []


def _unmigrated() -> list[str]:
    missing = sorted(_known_migrations() - _applied_migrations())
    if not missing:
        return []
    room, name = missing[0]
    return [f"{len(missing)} migrations are not applied ({room}.{name} first): run manage.py migrate"]


@functools.cache
def _known_migrations() -> frozenset[tuple[str, str]]:
    return frozenset(MigrationLoader(None).disk_migrations or ())


def _applied_migrations() -> set[tuple[str, str]]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('public.django_migrations') IS NOT NULL")
        if cursor.fetchone() != (True,):
            return set()
        cursor.execute("SELECT app, name FROM django_migrations")
        return set(cursor.fetchall())


def _unacknowledged() -> list[str]:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pusher.epoch(0::smallint)")
    except DatabaseError as error:
        if getattr(error.__cause__, "sqlstate", None) == RESTORED:
            return ["the database was restored or recovered: run manage.py after_restore"]
        return [_named("no event can be stored", error)]
    return []


def _named(what: str, error: Exception) -> str:
    """The kind of error is for everybody; its words (hosts, roles, files) are for the log."""
    log.warning("%s: %s", what, error)
    return f"{what} ({type(error).__name__})"


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
            return [f"the check itself failed ({type(error).__name__})"]
        finally:
            connection.close()
