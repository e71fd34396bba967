"""Which PostgreSQL do we use? `DATABASE_URL` as Django's settings, or the embedded server when it is unset."""

from typing import Any

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from config.environment import SettingError


def database(url: str, *, pool: bool) -> dict[str, Any]:
    """Django's DATABASES entry. The embedded server's address is filled in when it is first dialled."""
    settings: dict[str, Any] = {
        "ENGINE": "config.postgres",
        "NAME": "datapusher",
        "CONN_MAX_AGE": 0 if pool else None,
        "OPTIONS": {"pool": {"min_size": 1, "max_size": 8}} if pool else {},
    }
    if url:
        settings |= _from_url(url, settings["OPTIONS"])
    else:
        settings["EMBEDDED"] = True
    return settings


def _from_url(url: str, options: dict[str, Any]) -> dict[str, Any]:
    if not url.startswith(("postgresql://", "postgres://")):
        raise SettingError("DATABASE_URL must be postgresql://user:password@host:port/name")
    try:
        parts: dict[str, Any] = dict(conninfo_to_dict(url))
    except ProgrammingError as error:
        raise SettingError(f"DATABASE_URL can't be read: {error}") from None
    if not parts.get("dbname"):
        raise SettingError("DATABASE_URL names no database")
    return {
        "NAME": parts.pop("dbname"),
        "USER": parts.pop("user", ""),
        "PASSWORD": parts.pop("password", ""),
        "HOST": parts.pop("host", ""),
        "PORT": str(parts.pop("port", "")),
        "OPTIONS": options | parts,
    }
