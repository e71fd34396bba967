"""Does every commit that changes a cached table make a generation, seen by whoever sees the change?"""

import importlib
import threading

import pytest
from django.conf import settings
from django.db import connection

from accounts import operations
from accounts.generations import Generation
from accounts.models import Role
from accounts.operations import access
from tests import databases
from tests.accounts.conftest import register

MIGRATION = importlib.import_module("accounts.migrations.0003_generation")
NUMBER = "SELECT number FROM accounts_generation"


@pytest.fixture
def account(database):
    alice = register("alice")
    return operations.create_account(actor=alice, name="Orders").account


def name() -> str:
    return Role.objects.annotate(generation=Generation()).first().generation


def test_exactly_what_may_be_cached_has_generations(database):
    triggers = (
        "SELECT c.relname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"
        " WHERE t.tgfoid = 'accounts_next_generation'::regproc AND t.tgenabled = 'O'"
        " AND (t.tgdeferrable AND t.tginitdeferred) = %s ORDER BY 1"
    )
    for at_commit in (True, False):  # rows; a table that is emptied whole
        tables = [row[0] for row in database.connect().execute(triggers, [at_commit])]
        assert tables == sorted(settings.CACHALOT_ONLY_CACHABLE_TABLES) == sorted(MIGRATION.TABLES)


def test_a_commit_makes_one_however_much_it_changed_and_a_rollback_none(database, account):
    writer = database.connect(autocommit=False)
    (before,) = writer.execute(NUMBER).fetchone()
    writer.execute("UPDATE accounts_account SET name = 'A'")
    writer.execute("UPDATE accounts_account SET name = 'B'")
    writer.execute("UPDATE accounts_user SET registered = true")
    writer.execute("UPDATE accounts_member SET revision = 7")
    assert writer.execute(NUMBER).fetchone() == (before,)  # at the commit, not before
    writer.rollback()
    assert writer.execute(NUMBER).fetchone() == (before,)
    writer.execute("UPDATE accounts_account SET name = 'A'")
    writer.execute("UPDATE accounts_user SET registered = true")
    writer.commit()
    assert writer.execute(NUMBER).fetchone() == (before + 1,)
    writer.execute("UPDATE accounts_accesstoken SET expires_at = now()")  # of a table that is never cached
    writer.commit()
    assert writer.execute(NUMBER).fetchone() == (before + 1,)


def test_a_table_that_is_emptied_makes_one(database, account):
    owner = database.connect_owner()
    before = owner.execute(NUMBER).fetchone()
    owner.execute("TRUNCATE accounts_destination")
    assert owner.execute(NUMBER).fetchone() > before


def test_the_snapshot_that_shows_a_generation_shows_all_up_to_it_and_no_other(database, account):
    """What the argument rests on: generations are numbered in the order in which they become visible."""
    snapshot = "SELECT number - (SELECT sum(revision) FROM accounts_account) FROM accounts_generation"
    reader = database.connect()
    expected = reader.execute(snapshot).fetchone()

    def write() -> None:
        connection = database.connect()
        for _ in range(50):
            connection.execute("UPDATE accounts_account SET revision = revision + 1")

    writers = [threading.Thread(target=write) for _ in range(3)]
    for writer in writers:
        writer.start()
    seen = set()
    while any(writer.is_alive() for writer in writers):
        seen.add(reader.execute(snapshot).fetchone())
    assert seen == {expected}


def test_its_name_is_of_this_database_alone(template):
    names = set()
    for suffix in ("here", "there"):
        with databases.copy(template, suffix):
            names.add(name())
            assert connection.settings_dict["NAME"] in name()
    assert len(names) == 2


def test_an_operation_that_is_refused_under_its_lock_changes_nothing(database, account):
    (before,) = database.connect().execute(NUMBER).fetchone()
    stranger = register("stranger")
    with pytest.raises(access.NotFound):
        operations.update_account(actor=stranger, account_id=account.pk, changes={"name": "Mine"})
    assert database.connect().execute(NUMBER).fetchone() == (before + 1,)  # the registration's
