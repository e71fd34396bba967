"""Is this process alive (`/health/live`), and may it be sent work (`/health/ready`, with reasons if not)?"""

import functools
import logging
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from django.db import DatabaseError, connection
from django.db.migrations.loader import MigrationLoader

from api.asking import Asking
from api.body import Receive, Send
from config import fitness

LIVE = "/health/live"
READY = "/health/ready"
PATHS = frozenset((LIVE, READY))
RESTORED = "DP001"  # pusher.epoch
PATIENCE_SECONDS = 2.0
ALLOW = (b"allow", b"GET, HEAD")

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


async def _answer(send: Send, status: int, content: Mapping[str, Any], *more: tuple[bytes, bytes]) -> None:
    body = orjson.dumps(content)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        *more,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Health:
    """An ASGI application for PATHS. The database is asked once a second at most, by one thread."""

    def __init__(self, ask: Callable[[], list[str]] = unready) -> None:
        self._ask = ask
        self._asking = Asking(self._asked, name="health")

    async def __call__(self, scope: Mapping[str, Any], _receive: Receive, send: Send) -> None:
        if scope["method"] not in {"GET", "HEAD"}:
            await _answer(send, 405, {"status": "unavailable", "reasons": ["ask by GET"]}, ALLOW)
            return
        reasons = [] if scope["path"] == LIVE else await self._current()
        if reasons:
            await _answer(send, 503, {"status": "unavailable", "reasons": reasons}, (b"retry-after", b"1"))
        else:
            await _answer(send, 200, {"status": "ok"})

    def close(self) -> None:
        self._asking.close()

    async def _current(self) -> list[str]:
        reasons = await self._asking.current(patience_seconds=PATIENCE_SECONDS)
        if reasons is None:
            return [f"the database did not answer within {PATIENCE_SECONDS:g} s"]
        return reasons

    def _asked(self) -> list[str]:
        try:
            return self._ask()
        except Exception as error:
            log.exception("asking for readiness failed")
            return [f"the check itself failed ({type(error).__name__})"]
