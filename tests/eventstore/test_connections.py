"""Connections of the hot path carry limits, so that no stopped client holds a lock for long."""

import asyncio

import psycopg
import pytest

from eventstore import connections
from tests.databases import Database

LIMITS = (
    "idle_in_transaction_session_timeout",
    "lock_timeout",
    "statement_timeout",
    "TimeZone",
    "synchronous_commit",
)


def settings(connection: psycopg.Connection) -> dict[str, str]:
    rows = connection.execute("SELECT name, setting FROM pg_settings WHERE name = ANY(%s)", [list(LIMITS)])
    return dict(rows.fetchall())


def test_a_connection_leads_to_the_database_of_django_with_its_limits(database: Database):
    with connections.connect_sync(statement_timeout_ms=1234, name="a test") as connection:
        assert connection.autocommit
        assert connection.info.dbname == database.name
        assert connection.info.get_parameters()["application_name"] == "a test"
        assert settings(connection) == {
            "idle_in_transaction_session_timeout": str(connections.IDLE_IN_TRANSACTION_MS),
            "lock_timeout": str(connections.LOCK_MS),
            "statement_timeout": "1234",
            "TimeZone": "UTC",
            "synchronous_commit": "on",
        }


def test_the_asynchronous_one_is_alike(database: Database):
    async def look() -> tuple[bool, str]:
        async with await connections.connect() as connection:
            row = await (await connection.execute("SHOW lock_timeout")).fetchone()
            assert row is not None
            return connection.autocommit, row[0]

    assert asyncio.run(look()) == (True, "10s")


def test_a_forgotten_transaction_is_ended_by_the_server(database: Database, monkeypatch):
    monkeypatch.setattr(connections, "IDLE_IN_TRANSACTION_MS", 50)
    with connections.connect_sync() as connection:
        connection.execute("BEGIN")
        asyncio.run(asyncio.sleep(0.3))
        with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout):
            connection.execute("SELECT 1")
