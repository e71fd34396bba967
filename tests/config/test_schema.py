"""Does the SQL code get in whole or not at all, only when it changed, and with the rights that were meant?"""

import threading
from pathlib import Path

import psycopg
import pytest
from django.core.management import CommandError, call_command
from psycopg import errors

from config import schema
from tests.databases import Database

ONE = "CREATE FUNCTION pusher.one() RETURNS int LANGUAGE sql AS 'SELECT 1'"


@pytest.fixture
def rooms(tmp_path: Path) -> Path:
    for room in schema.ROOMS:
        (tmp_path / room / "sql").mkdir(parents=True)
    write(tmp_path, "eventstore/sql/one.sql", ONE)
    return tmp_path


def write(base: Path, name: str, text: str) -> None:
    (base / name).write_text(text)


def test_files_become_functions_and_a_second_time_changes_nothing(database: Database, rooms: Path) -> None:
    owner = database.connect_owner()
    assert schema.install(owner, base=rooms) is True
    assert owner.execute("SELECT pusher.one()").fetchone() == (1,)
    assert schema.install(owner, base=rooms) is False


def test_a_later_room_may_build_on_an_earlier_one(database: Database, rooms: Path) -> None:
    write(rooms, "accounts/sql/two.sql", "CREATE VIEW pusher.two AS SELECT pusher.one() + 1 AS n")
    owner = database.connect_owner()
    schema.install(owner, base=rooms)
    assert owner.execute("SELECT n FROM pusher.two").fetchone() == (2,)


def test_a_removed_file_is_a_removed_function(database: Database, rooms: Path) -> None:
    owner = database.connect_owner()
    schema.install(owner, base=rooms)
    (rooms / "eventstore/sql/one.sql").unlink()
    schema.install(owner, base=rooms)
    with pytest.raises(errors.UndefinedFunction):
        owner.execute("SELECT pusher.one()")


def test_a_faulty_file_is_named_and_leaves_the_old_code(database: Database, rooms: Path) -> None:
    owner = database.connect_owner()
    schema.install(owner, base=rooms)
    write(rooms, "outbox/sql/broken.sql", "CREATE FUNCTION pusher.broken(")
    with pytest.raises(schema.SchemaError, match=r"outbox/sql/broken\.sql"):
        schema.install(owner, base=rooms)
    assert owner.execute("SELECT pusher.one()").fetchone() == (1,)


def test_a_view_in_use_is_not_waited_for_without_end(
    database: Database, rooms: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(rooms, "eventstore/sql/two.sql", "CREATE VIEW pusher.two AS SELECT 2 AS n")
    owner = database.connect_owner()
    schema.install(owner, base=rooms)
    reader = database.connect_owner(autocommit=False)
    reader.execute("SELECT * FROM pusher.two")
    write(rooms, "eventstore/sql/two.sql", "CREATE VIEW pusher.two AS SELECT 3 AS n")
    monkeypatch.setattr(schema, "LOCK_TIMEOUT", "200ms")
    with pytest.raises(schema.SchemaError, match="in use"):
        schema.install(owner, base=rooms)
    assert reader.execute("SELECT n FROM pusher.two").fetchone() == (2,)


def test_a_trigger_is_never_dropped_along(database: Database, rooms: Path) -> None:
    body = "CREATE FUNCTION pusher.refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
    write(rooms, "eventstore/sql/refuse.sql", body)
    owner = database.connect_owner()
    schema.install(owner, base=rooms)
    owner.execute("CREATE TABLE precious (i int)")
    owner.execute("CREATE TRIGGER kept BEFORE DELETE ON precious EXECUTE FUNCTION pusher.refuse()")
    write(rooms, "eventstore/sql/refuse.sql", body + " -- changed")
    with pytest.raises(schema.SchemaError, match="trigger kept on table precious"):
        schema.install(owner, base=rooms)


def test_two_migrations_at_once_both_end_well(database: Database) -> None:
    owner = database.connect_owner()
    owner.execute("DROP SCHEMA pusher CASCADE")
    failed: list[Exception] = []

    def migrate() -> None:
        try:
            call_command("migrate", verbosity=0)
        except (CommandError, psycopg.Error) as error:
            failed.append(error)

    threads = [threading.Thread(target=migrate) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert owner.execute("SELECT to_regnamespace('pusher') IS NOT NULL").fetchone() == (True,)


@pytest.mark.parametrize(
    ("table", "allowed"),
    [
        ("ordinary", "SELECT, INSERT, UPDATE, DELETE"),
        ("event", "SELECT, INSERT"),
        ("django_migrations", "SELECT"),
    ],
)
def test_the_application_gets_what_it_needs(
    database: Database, rooms: Path, table: str, allowed: str
) -> None:
    owner, application = database.connect_owner(), database.connect()
    role = application.info.user
    if role == owner.info.user:
        pytest.skip("this server was given without an owner of its own")
    owner.execute(f"CREATE TABLE IF NOT EXISTS {table} (i int)")
    schema.install(owner, base=rooms)
    schema.grant(owner, role)
    has = [
        right
        for right in ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")
        if application.execute("SELECT has_table_privilege(%s, %s)", [table, right]).fetchone() == (True,)
    ]
    assert ", ".join(has) == allowed


def test_the_application_may_call_and_see_but_not_create(database: Database, rooms: Path) -> None:
    write(rooms, "accounts/sql/two.sql", "CREATE VIEW pusher.two AS SELECT pusher.one() + 1 AS n")
    owner, application = database.connect_owner(), database.connect()
    schema.install(owner, base=rooms)
    schema.grant(owner, application.info.user)
    assert application.execute("SELECT n, pusher.one() FROM pusher.two").fetchone() == (2, 1)
    if application.info.user != owner.info.user:
        with pytest.raises(errors.InsufficientPrivilege):
            application.execute("CREATE FUNCTION pusher.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'")
