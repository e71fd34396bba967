"""History can only be added to: the database refuses everything else, to everybody."""

import psycopg
import pytest

from tests.databases import Database
from tests.eventstore import stores

TABLES = ["event", "event_key", "event_position", "block", "history"]
CHANGES = [
    "UPDATE {} SET scope = scope",
    "DELETE FROM {}",
    "DELETE FROM {} WHERE false",  # a statement that would touch nothing is refused as well
    "TRUNCATE {}",
    "TRUNCATE {} CASCADE",
]


def statement(change: str, table: str) -> str:
    column = "account_id" if table == "event_key" else "scope"
    return change.replace("scope", column).format(table)


@pytest.mark.parametrize("table", TABLES)
def test_the_application_has_no_right_to_change_history(database: Database, table):
    connection = database.connect()
    stores.append(connection)
    for change in CHANGES:
        # Where application and owner are one role, the trigger alone stands in the way.
        with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.RestrictViolation)):
            connection.execute(statement(change, table))


@pytest.mark.parametrize("table", TABLES)
def test_the_owner_is_refused_by_the_trigger(database: Database, table):
    connection = database.connect_owner()
    for change in CHANGES:
        with pytest.raises(psycopg.errors.RestrictViolation, match="can only be added to"):
            connection.execute(statement(change, table))


def test_the_application_cannot_switch_the_trigger_off(database: Database):
    if database.url == database.owner_url:
        pytest.skip("one role for both: DATABASE_URL without MIGRATION_DATABASE_URL")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        database.connect().execute("ALTER TABLE event DISABLE TRIGGER append_only")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        database.connect().execute("SET session_replication_role = replica")


def test_an_upsert_of_an_event_is_refused(database: Database):
    with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.RestrictViolation)):
        database.connect().execute(
            "INSERT INTO event_key SELECT gen_random_uuid(), 'a', gen_random_uuid()"
            " ON CONFLICT (account_id, client_id) DO UPDATE SET event_id = excluded.event_id"
        )


def test_payloads_can_be_erased(database: Database):
    connection = database.connect()
    connection.execute("INSERT INTO payload SELECT gen_random_uuid(), gen_random_uuid(), 'body', 'salt'")
    assert connection.execute("DELETE FROM payload").rowcount == 1
