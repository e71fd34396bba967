"""Which PostgreSQL do we use? `DATABASE_URL` as Django's settings, or the embedded server without it."""

from pathlib import Path
from typing import Any

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from config.environment import SettingError

EMBEDDED_NAME = "datapusher"
PATIENCE_SECONDS = 3.0  # a thread that waits for a connection answers nobody else


def database(url: str, *, owner_url: str, pool: bool, data_dir: Path) -> dict[str, Any]:
    """Django's DATABASES entry. The embedded server's address is filled in when it is first dialled."""
    settings: dict[str, Any] = {
        "ENGINE": "config.postgres",
        "NAME": EMBEDDED_NAME,
        "CONN_MAX_AGE": 0 if pool else None,
        "OPTIONS": {"pool": {"min_size": 1, "max_size": 8, "timeout": PATIENCE_SECONDS}} if pool else {},
    }
    if not url:
        return settings | {"EMBEDDED": str(data_dir)}
    found = address(url, name="DATABASE_URL")
    if address(owner_url, name="MIGRATION_DATABASE_URL")["NAME"] != found["NAME"]:
        raise SettingError("MIGRATION_DATABASE_URL must name the same database as DATABASE_URL")
    return settings | found | {"OPTIONS": settings["OPTIONS"] | found["OPTIONS"]}


def address(url: str, *, name: str) -> dict[str, Any]:
    """The parts of a DATABASES entry that a URL tells. Raises SettingError, which names the variable."""
    if not url.startswith(("postgresql://", "postgres://")):
        raise SettingError(f"{name} must be postgresql://user:password@host:port/name")
    try:
        parts: dict[str, Any] = dict(conninfo_to_dict(url))
    except ProgrammingError:  # its message may quote the password
        raise SettingError(f"{name} can't be read as a PostgreSQL URL") from None
    if not parts.get("dbname"):
        raise SettingError(f"{name} names no database")
    return {
        "NAME": parts.pop("dbname"),
        "USER": parts.pop("user", ""),
        "PASSWORD": parts.pop("password", ""),
        "HOST": parts.pop("host", ""),
        "PORT": str(parts.pop("port", "")),
        "OPTIONS": parts,
    }
