"""When is the process alive, and when may it be sent work?"""

import asyncio
import threading
import time

from django.db import OperationalError, connection

from api import health
from tests.api import asgi


def ask(app, path=health.READY):
    reply = asyncio.run(asgi.call(app, method="GET", path=path))
    assert reply is not None
    return reply


def test_alive_needs_no_database():
    def fall():
        raise AssertionError("it asked")

    reply = ask(health.Health(fall), health.LIVE)
    assert (reply.status, reply.json) == (200, {"status": "ok"})


def test_it_is_asked_by_get_alone():
    reply = asyncio.run(asgi.call(health.Health(list), method="DELETE", path=health.LIVE))
    assert (reply.status, reply.header("allow")) == (405, "GET, HEAD")


def test_ready_is_200_and_unready_503_with_the_reasons():
    assert ask(health.Health(list)).status == 200
    reply = ask(health.Health(lambda: ["the roof fell in"]))
    assert (reply.status, reply.header("retry-after")) == (503, "1")
    assert reply.json == {"status": "unavailable", "reasons": ["the roof fell in"]}


def test_the_database_is_asked_once_a_second_at_most():
    asked = []
    app = health.Health(lambda: asked.append(1) or [])

    async def scenario():
        calls = (asgi.call(app, method="GET", path=health.READY) for _ in range(20))
        replies = await asyncio.gather(*calls)
        assert {reply.status for reply in replies} == {200}

    asyncio.run(scenario())
    assert len(asked) == 1


def test_a_database_that_swallows_the_question_is_no_reason_to_wait_for_long(monkeypatch):
    monkeypatch.setattr(health, "PATIENCE_SECONDS", 0.1)
    free = threading.Event()

    def wait():
        free.wait(10)
        return []

    app = health.Health(wait)
    began = time.monotonic()
    reply = ask(app)
    assert (reply.status, time.monotonic() - began < 2) == (503, True)
    free.set()
    app.close()


def test_a_check_that_fails_is_a_reason():
    def fall():
        raise RuntimeError("the check fell")

    assert ask(health.Health(fall)).json["reasons"] == ["the check itself failed (RuntimeError)"]


def test_a_migrated_database_is_ready(database):
    assert health.unready() == []


def test_a_missing_migration_is_a_reason(database):
    with database.connect_owner() as owner:
        owner.execute("DELETE FROM django_migrations WHERE app = 'accounts'")
    assert "run manage.py migrate" in health.unfit()[0]


def test_a_restored_database_is_unready_until_it_is_acknowledged(database):
    with database.connect_owner() as owner:
        owner.execute("ALTER TABLE history DISABLE TRIGGER USER")
        owner.execute("UPDATE history SET system_identifier = 1")
    assert health.unfit() == []
    assert "after_restore" in health.unready()[0]


def test_a_database_that_is_not_durable_is_unfit(database):
    with database.connect_owner() as owner:
        owner.execute(f'ALTER DATABASE "{database.name}" SET synchronous_commit = off')
    connection.close()
    assert "synchronous_commit" in health.unfit()[0]


def test_a_database_that_is_away_is_a_reason_whose_words_are_for_the_log(monkeypatch, caplog):
    def fall():
        raise OperationalError('connection to "db-7.internal" refused\nIs the server running?')

    monkeypatch.setattr(connection, "ensure_connection", fall)
    assert health.unfit() == ["the database does not answer (OperationalError)"]
    assert "db-7.internal" in caplog.text


def test_a_database_that_can_not_store_is_a_reason_whose_words_are_for_the_log(database, caplog):
    with database.connect_owner() as owner:
        owner.execute("DROP SCHEMA pusher CASCADE")
    assert health.unready() == ["no event can be stored (ProgrammingError)"]
    assert "pusher" in caplog.text
