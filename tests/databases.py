"""Real databases for tests: one migrated template per session, and copies of it that take 100 ms each."""

import gc
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import quote, urlencode

import psycopg
from django.core.management import call_command
from django.db import connections
from psycopg import errors, sql

from config import owner

ADDRESS = ("user", "password", "host", "port", "sslmode", "sslrootcert")


@dataclass(frozen=True)
class Database:
    """A database of its own: everything in it is committed for real, and dropped with the test."""

    name: str
    url: str
    owner_url: str
    opened: list[psycopg.Connection[Any]] = field(default_factory=list, repr=False)

    @property
    def environment(self) -> dict[str, str]:
        """For a subprocess (`manage.py ...`) that works on this database."""
        own = {
            "DATABASE_URL": self.url,
            "MIGRATION_DATABASE_URL": self.owner_url,
            "DJANGO_SETTINGS_MODULE": "config.settings",
        }
        return {**os.environ, **own}

    def connect(self, **options: Any) -> psycopg.Connection[Any]:
        """A connection as the application, in autocommit, closed with the test."""
        return self._connect(self.url, options)

    def connect_owner(self, **options: Any) -> psycopg.Connection[Any]:
        return self._connect(self.owner_url, options)

    def _connect(self, url: str, options: dict[str, Any]) -> psycopg.Connection[Any]:
        connection = psycopg.connect(url, **{"autocommit": True, **options})
        self.opened.append(connection)
        return connection


@dataclass(frozen=True)
class Template:
    """The migrated database that the others are copied from. Nobody may be connected to it meanwhile."""

    name: str

    def copy(self, suffix: str) -> Database:
        name = f"{self.name}_{suffix}"
        with maintenance() as connection:
            statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
            connection.execute(statement.format(sql.Identifier(name), sql.Identifier(self.name)))
        application, owned = addresses()
        copied = Database(name=name, url=as_url(application, name), owner_url=as_url(owned, name))
        _own_history(copied)
        return copied


@contextmanager
def template(worker: str) -> Iterator[Template]:
    """Migrated by the owner, once per session and worker."""
    made = Template(f"test_{worker}_{os.getpid()}_{secrets.token_hex(3)}")
    with maintenance() as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(made.name)))
    try:
        with pointed_at(made.name):
            call_command("migrate", verbosity=0, interactive=False)
        yield made
    finally:
        drop(made.name)


@contextmanager
def copy(source: Template, suffix: str) -> Iterator[Database]:
    """A copy that Django's default connection of every thread leads to."""
    made = source.copy(suffix)
    try:
        with pointed_at(made.name):
            yield made
    finally:
        for connection in made.opened:
            connection.close()
        drop(made.name)


@contextmanager
def pointed_at(name: str) -> Iterator[None]:
    settings = connections["default"].settings_dict  # one dict for the wrappers of all threads
    kept = settings["NAME"]
    connections.close_all()
    settings["NAME"] = name
    try:
        yield
    finally:
        connections.close_all()
        settings["NAME"] = kept


def drop(name: str) -> None:
    _end_sessions(name)
    statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
    with maintenance() as connection:
        connection.execute("SET statement_timeout = '1s'")
        for _ in range(50):
            try:
                connection.execute(statement)
            except errors.InsufficientPrivilege:  # autovacuum is in it, which only a superuser may end
                time.sleep(0.1)
            except errors.QueryCanceled:
                # A session that is still being authenticated holds every DROP up. That is a connect which a
                # test cancelled half-way: its socket hangs in a circle of references.
                gc.collect()
            else:
                return
    raise AssertionError(f"{name} can't be dropped")


def _end_sessions(name: str) -> None:
    """The owner may not end the application's sessions (a worker that is still there); itself it may."""
    with maintenance(as_owner=False) as application:
        application.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = %s AND usename = current_user",
            [name],
        )


@contextmanager
def maintenance(*, as_owner: bool = True) -> Iterator[psycopg.Connection[Any]]:
    """In the database that the settings name: where databases are made and dropped from."""
    with psycopg.connect(**addresses()[as_owner], dbname=CONFIGURED, autocommit=True) as connection:
        yield connection


@cache
def addresses() -> tuple[dict[str, Any], dict[str, Any]]:
    """How the application and how the owner reach the server."""
    application = connections["default"].get_connection_params()
    with owner.acting() as connection:
        owned = connection.get_connection_params()
    return _only_address(application), _only_address(owned)


def as_url(address: dict[str, Any], name: str) -> str:
    login = ":".join(quote(str(address[key]), safe="") for key in ("user", "password") if address.get(key))
    rest = {key: value for key, value in address.items() if key not in {"user", "password"}}
    return f"postgresql://{login}@/{quote(name)}?{urlencode(rest, quote_via=quote)}"


def _only_address(parameters: dict[str, Any]) -> dict[str, Any]:
    return {key: parameters[key] for key in ADDRESS if parameters.get(key)}


def _own_history(database: Database) -> None:
    """The history names its database, so that a restored dump is noticed: a copy must name itself."""
    with psycopg.connect(database.owner_url) as connection:
        if connection.execute("SELECT to_regclass('public.history')").fetchone() == (None,):
            return
        connection.execute("ALTER TABLE history DISABLE TRIGGER USER")
        connection.execute(
            "UPDATE history SET database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        connection.execute("ALTER TABLE history ENABLE TRIGGER USER")


CONFIGURED = connections["default"].settings_dict["NAME"]
