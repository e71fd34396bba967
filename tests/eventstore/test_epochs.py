"""A restored or recovered database refuses to append and to seal until a new epoch has begun."""

from uuid import uuid4

import psycopg
import pytest
from django.db import DatabaseError, transaction

from eventstore import append, blocks, history, verify
from eventstore.events import NO_ACCOUNT, NewEvent
from tests.databases import Database
from tests.eventstore import stores

ELSEWHERE = {
    "another cluster": "UPDATE history SET system_identifier = system_identifier + 1",
    "another timeline": "UPDATE history SET timeline = timeline + 1",
    "another database": "UPDATE history SET database = 1",
}
HOME_AGAIN = "UPDATE history SET system_identifier = system_identifier - 1"


@pytest.fixture
def restored(database: Database, request: pytest.FixtureRequest) -> stores.Connection:
    """A database whose history was written elsewhere: 3 events in a block, 3 in none, as in a dump."""
    connection = database.connect()
    stream = uuid4()
    stores.append(connection, stream, *[uuid4() for _ in range(2)])
    assert stores.seal(connection) == 1
    stores.append(connection, stream, *[uuid4() for _ in range(2)])
    pretend(database, getattr(request, "param", ELSEWHERE["another cluster"]))
    return connection


def pretend(database: Database, change: str) -> None:
    owner = database.connect_owner()
    owner.execute("ALTER TABLE history DISABLE TRIGGER append_only")
    owner.execute(change)
    owner.execute("ALTER TABLE history ENABLE ALWAYS TRIGGER append_only")


@pytest.mark.parametrize("restored", ELSEWHERE.values(), ids=ELSEWHERE.keys(), indirect=True)
def test_everything_refuses_until_a_new_epoch_begins(restored):
    for attempt in (stores.append, stores.seal):
        with pytest.raises(psycopg.Error, match="after_restore") as refused:
            attempt(restored)
        assert refused.value.sqlstate == history.RESTORED
        assert history.is_restored(refused.value)
    with transaction.atomic():
        assert history.begin_epoch() == 2
    stores.append(restored)
    assert stores.seal(restored) == 3


def test_a_refusal_is_known_through_djangos_error(restored):
    event = NewEvent(type="a.b", account_id=NO_ACCOUNT, stream_id=uuid4(), data={})
    with pytest.raises(DatabaseError) as refused, transaction.atomic():
        append.append([event])
    assert history.is_restored(refused.value)
    assert not history.is_restored(ValueError())


def test_what_the_old_epoch_left_is_sealed_and_the_history_is_whole(restored):
    with transaction.atomic():
        history.begin_epoch()
    stores.append(restored)
    stores.seal_all(restored)
    rows = restored.execute("SELECT number, epoch, count FROM block ORDER BY number").fetchall()
    assert rows == [(1, 1, 3), (2, 1, 3), (3, 2, 1)]
    report = verify.verify(restored)
    assert (report.damages, report.events, report.unsealed) == ([], 7, 0)


def test_transaction_ids_of_another_cluster_may_be_higher_or_lower(restored, database: Database):
    """A dump keeps the ids of the events, and its new home counts from anywhere."""
    owner = database.connect_owner()
    owner.execute("ALTER TABLE event DISABLE TRIGGER append_only")
    far = "(xid::text::bigint + 1000000000)::text::xid8"
    owner.execute(f"UPDATE event SET xid = {far} WHERE seq > 3")
    with transaction.atomic():
        history.begin_epoch()
    stores.append(restored)
    stores.append(restored)
    assert stores.seal_all(restored, 1) == 2
    assert verify.verify(restored).damages == []


def test_a_large_rest_is_sealed_in_several_blocks(restored, database: Database):
    pretend(database, HOME_AGAIN)
    for _ in range(3):
        stores.append(restored, count=7_000)
    pretend(database, ELSEWHERE["another cluster"])
    with transaction.atomic():
        history.begin_epoch()
    counts = [row[0] for row in restored.execute("SELECT count FROM block ORDER BY number")]
    assert counts == [3, 7_003, 7_000, 7_000]
    assert blocks.seal_all() == 0


def test_a_new_epoch_is_begun_once(restored):
    with transaction.atomic():
        assert history.begin_epoch() == 2
    with transaction.atomic():
        assert history.begin_epoch() is None


def test_a_restore_that_left_nothing_unsealed(database: Database):
    stores.append(database.connect())
    blocks.seal_all()
    pretend(database, ELSEWHERE["another cluster"])
    with transaction.atomic():
        assert history.begin_epoch() == 2
    assert stores.number(database.connect(), "SELECT count(*) FROM block") == 1


def test_a_restore_of_an_empty_store(database: Database):
    pretend(database, ELSEWHERE["another database"])
    with transaction.atomic():
        assert history.begin_epoch() == 2
    stores.append(database.connect())
    assert blocks.seal_all() == 1


def test_it_stands_or_falls_with_the_transaction_around_it(restored):
    with pytest.raises(RuntimeError, match="atomic"):
        history.begin_epoch()

    def interrupted() -> None:
        with transaction.atomic():
            history.begin_epoch()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        interrupted()
    assert stores.number(restored, "SELECT count(*) FROM block") == 1
    with pytest.raises(psycopg.Error, match="after_restore"):
        stores.append(restored)


def test_the_rest_of_a_living_epoch_is_not_for_sealing(database: Database):
    """Transactions may still be under way in it: they would be left out for ever."""
    with pytest.raises(psycopg.errors.RaiseException, match="still being written"):
        database.connect().execute("SELECT pusher.seal_rest(0::smallint)")
