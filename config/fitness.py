"""Is this PostgreSQL new enough, and does it keep what it has confirmed? If not, we don't start."""

from typing import Any

import psycopg
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError

OLDEST = 16
DURABLE = ("fsync", "full_page_writes", "synchronous_commit")


class UnfitServer(CommandError, ImproperlyConfigured):
    """The server can't keep our promises; the message names what is wrong. Commands print it in one line."""


def check(connection: psycopg.Connection[Any]) -> None:
    """Raise UnfitServer unless the server is fit. To be asked before the session changes any setting."""
    version = connection.info.server_version
    if version < OLDEST * 10_000:
        raise UnfitServer(f"PostgreSQL {OLDEST} or newer is needed, this server is {version // 10_000}")
    rows = connection.execute(
        "SELECT name, setting FROM pg_settings WHERE name = ANY(%s) AND setting = 'off' ORDER BY name",
        [list(DURABLE)],
    ).fetchall()
    if rows:
        names = ", ".join(name for name, _ in rows)
        raise UnfitServer(f"{names} is off on this PostgreSQL: what we confirm could be lost. Switch it on")
