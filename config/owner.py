"""How does a command act as the owner of the tables (`MIGRATION_DATABASE_URL`), not as the application?"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from config.database import address


@contextmanager
def acting(alias: str = DEFAULT_DB_ALIAS) -> Iterator[BaseDatabaseWrapper]:
    """This thread's connection is the owner's, to the same database, until the block ends."""
    connection = connections[alias]
    kept = connection.settings_dict
    connection.close()
    connection.settings_dict = _owner_settings(kept)
    try:
        yield connection
    finally:
        connection.close()
        connection.settings_dict = kept


def _owner_settings(application: dict[str, Any]) -> dict[str, Any]:
    changed: dict[str, Any] = {"CONN_MAX_AGE": None, "OPTIONS": {}, "AS_OWNER": True}
    if not application.get("EMBEDDED"):
        changed |= address(settings.MIGRATION_DATABASE_URL, name="MIGRATION_DATABASE_URL")
    # The name stays: tests work on copies of the database.
    return application | changed | {"NAME": application["NAME"]}
