"""Are the tests' databases what they promise: real, apart from each other, and served as the application?"""

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from django.db import connection

from tests.databases import Database

ROOT = Path(__file__).resolve().parents[2]


def names(database: Database) -> list[str]:
    return [row[0] for row in database.connect_owner().execute("SELECT name FROM django_content_type")]


def one(query: str) -> object:
    with connection.cursor() as cursor:
        cursor.execute(query)
        row = cursor.fetchone()
    return row[0] if row else None


def test_django_is_pointed_at_the_copy(database: Database) -> None:
    assert one("SELECT current_database()") == database.name


def test_the_application_neither_owns_nor_rules(database: Database) -> None:
    assert one("SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is False
    if database.url == database.owner_url:
        pytest.skip("this server was given without an owner of its own")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        database.connect().execute("ALTER TABLE django_content_type ADD COLUMN x int")


@pytest.mark.parametrize("time", ["first", "second"])
def test_what_is_committed_ends_with_the_test(database: Database, time: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM django_session")
        assert cursor.fetchone() == (0,), time
        cursor.execute("INSERT INTO django_session VALUES ('k', 'v', now())")
    assert database.connect().execute("SELECT count(*) FROM django_session").fetchone() == (1,)


def test_another_process_works_on_the_same_copy(database: Database) -> None:
    database.connect().execute("INSERT INTO django_session VALUES ('mine', 'v', now())")
    code = "from django.contrib.sessions.models import Session as S; print([s.pk for s in S.objects.all()])"
    done = subprocess.run(
        [sys.executable, "manage.py", "shell", "--no-imports", "-c", code],
        cwd=ROOT,
        env=database.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "['mine']" in done.stdout, done.stderr


@pytest.mark.django_db
def test_rolled_back_tests_are_the_application_too() -> None:
    assert one("SELECT rolsuper OR rolcreatedb FROM pg_roles WHERE rolname = current_user") is (
        not os.environ.get("MIGRATION_DATABASE_URL") and bool(os.environ.get("DATABASE_URL"))
    )


@pytest.mark.django_db
def test_the_history_names_the_copy() -> None:
    if one("SELECT to_regclass('public.history')::text") is None:
        pytest.skip("no history yet")
    assert one(
        "SELECT database = (SELECT oid FROM pg_database WHERE datname = current_database()) FROM history"
    )
