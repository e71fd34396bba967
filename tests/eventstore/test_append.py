"""A fact is recorded with the change that it tells of, or not at all."""

from uuid import uuid4

import psycopg
import pytest
from django.db import transaction

from eventstore.append import append
from eventstore.events import NO_ACCOUNT, NewEvent, UnfitError
from tests.databases import Database
from tests.eventstore import stores


def event(**changes) -> NewEvent:
    values = {"type": "thing.happened", "account_id": NO_ACCOUNT, "stream_id": uuid4(), "data": {}}
    return NewEvent(**(values | changes))


def test_events_get_the_next_versions_of_their_streams(database: Database):
    one, other = uuid4(), uuid4()
    with transaction.atomic():
        append([event(stream_id=one)])
    with transaction.atomic():
        append([event(stream_id=one), event(stream_id=other), event(stream_id=one)])
    rows = database.connect().execute("SELECT stream_id, version FROM event ORDER BY seq").fetchall()
    assert rows == [(one, 1), (one, 2), (other, 1), (one, 3)]


def test_a_change_that_fails_leaves_no_event(database: Database):
    def change() -> None:
        with transaction.atomic():
            append([event()])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        change()
    assert stores.number(database.connect(), "SELECT count(*) FROM event") == 0


def test_outside_of_a_transaction_it_is_refused(database: Database):
    with pytest.raises(RuntimeError, match="atomic"):
        append([event()])


def test_nothing_is_appended_for_nothing(database: Database):
    with transaction.atomic():
        append([])
    assert stores.number(database.connect(), "SELECT count(*) FROM event") == 0


def test_two_at_once_without_the_lock_make_no_double(database: Database):
    stream = uuid4()
    first, second = database.connect(autocommit=False), database.connect()
    stores.append(first, stream)
    second.execute("SET lock_timeout = '100ms'")
    with pytest.raises(psycopg.errors.LockNotAvailable):  # it waits for the first to end
        stores.append(second, stream)
    first.commit()
    stores.append(second, stream)
    rows = second.execute("SELECT version FROM event ORDER BY seq").fetchall()
    assert rows == [(1,), (2,)]


@pytest.mark.parametrize(
    "data",
    [
        {"duration": 1.5},  # floats print differently by language
        {"deep": [{"er": float("nan")}]},
        {"text": "a\0b"},  # jsonb can't hold NUL
        {"text": "\ud800"},  # nor a lone surrogate
        {"k\0": 1},
        {1: "a"},  # JSON's keys are strings
        {"when": object()},
        {"bytes": b"x"},
        {"text": "x" * 65_537},
    ],
)
def test_data_that_has_no_exact_form_is_refused(data):
    with pytest.raises(UnfitError):
        event(data=data)


def test_a_received_event_may_list_any_number_of_deliveries():
    pairs = [[str(uuid4()), str(uuid4())] for _ in range(2_000)]
    assert event(type="event.received", data={"deliveries": pairs}).data["deliveries"] == pairs
