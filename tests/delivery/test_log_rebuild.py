"""Logs are built anew beside the live ones, equal row for row or not switched, while all goes on."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command

from config import owner as owners
from delivery import queries, rebuild
from tests.databases import Database
from tests.delivery import logs
from tests.delivery.logs import Delivery
from tests.eventstore import stores

VERSIONS = (
    "SELECT relname FROM pg_class WHERE relname ~ '^delivery_log_v[0-9]+$' AND relkind = 'r' ORDER BY 1"
)


def happen(connection: stores.Connection, count: int = 20) -> None:
    """Deliveries in several blocks, each at some point of its life."""
    for number in range(count):
        delivery = Delivery(connection, client_event_id=f"event {number}").received(Delivery(connection))
        for step in range(number % 4):
            delivery.attempted(step + 1)
        if number % 3 == 0:
            delivery.succeeded(number % 4 + 1)
        if number % 5 == 0:
            logs.project(connection)


def build() -> rebuild.Rebuilt:
    with owners.acting():
        return rebuild.rebuild(lambda *_: None)


def test_the_rebuilt_logs_take_the_place_of_the_live_ones(database: Database, capsys):
    connection = database.connect()
    happen(connection)
    logs.project(connection)
    before = list(queries.logs(stores.ACCOUNT).values())
    call_command("rebuild_logs")
    assert "rebuilt logs equal the live ones: 40 deliveries, now version 2" in capsys.readouterr().out
    after = list(queries.logs(stores.ACCOUNT).values())
    assert after == [
        row | {"version": 2, "pk": (2, *row["pk"][1:])} if "pk" in row else row | {"version": 2}
        for row in before
    ]
    assert connection.execute(VERSIONS).fetchall() == [("delivery_log_v2",)]
    assert connection.execute("SELECT name, version FROM projection_checkpoint ORDER BY name").fetchall() == [
        ("delivery_log", 2),
        ("delivery_total", 1),
    ]


def test_the_new_version_has_the_indexes_and_goes_on(database: Database):
    connection = database.connect()
    happen(connection)
    logs.project(connection)
    indexes = "SELECT count(*) FROM pg_index WHERE indrelid = %s::regclass AND indisvalid"
    expected = stores.number(connection, indexes, "delivery_log_v1")
    build()
    assert stores.number(connection, indexes, "delivery_log_v2") == expected
    delivery = Delivery(connection).received().succeeded(1)  # as the application, not as the owner
    logs.project(connection)
    assert queries.log(delivery.account, delivery.id).status == "success"
    assert build().version == 3


def test_logs_that_lag_behind_are_no_difference(database: Database):
    """The live version has not seen the last blocks yet: it is compared where it stands."""
    connection = database.connect()
    happen(connection)
    stores.seal_all(connection)
    assert build().version == 2
    logs.project(connection)
    assert queries.logs(stores.ACCOUNT).count() == 40


def test_an_empty_log_is_rebuilt(database: Database):
    assert build() == rebuild.Rebuilt(version=2, rows=0, left=[])


def test_deleted_accounts_make_no_difference(database: Database):
    connection = database.connect()
    gone = uuid4()
    Delivery(connection, account=gone).received().succeeded(1)
    logs.project(connection)
    logs.delete_account(connection, gone)
    happen(connection, 3)
    logs.project(connection)  # the live version still has the row; the new one may not
    assert build().version == 2
    assert queries.logs(gone).count() == 0


DAMAGES = {
    "a row that is not as it should be": "UPDATE delivery_log SET attempts = 7 WHERE delivery_id = %s",
    "a row too few": "DELETE FROM delivery_log WHERE delivery_id = %s",
    "null instead of a value": "UPDATE delivery_log SET response_status = NULL WHERE delivery_id = %s",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_difference_is_named_and_nothing_is_switched(database: Database, damage):
    connection = database.connect()
    happen(connection)
    delivery = Delivery(connection).received().succeeded(1)
    logs.project(connection)
    connection.execute(damage, [delivery.id])
    with pytest.raises(
        CommandError, match=f"1 deliveries differ: {delivery.id}. The live logs are as they were"
    ):
        call_command("rebuild_logs")
    assert connection.execute(VERSIONS).fetchall() == [("delivery_log_v1",)]
    assert stores.number(connection, "SELECT active FROM projection WHERE name = 'delivery_log'") == 1
    logs.project(connection)


def test_logs_known_to_be_wrong_are_replaced_when_asked_for(database: Database, capsys):
    connection = database.connect()
    delivery = Delivery(connection).received().succeeded(1)
    logs.project(connection)
    connection.execute("UPDATE delivery_log SET attempts = 7")
    call_command("rebuild_logs", compare=False)
    assert "rebuilt logs, not compared: 1 deliveries, now version 2" in capsys.readouterr().out
    assert queries.log(delivery.account, delivery.id).attempts == 1


def test_a_row_too_many_is_a_difference(database: Database):
    connection = database.connect()
    happen(connection, 2)
    logs.project(connection)
    stray = stores.number(
        connection,
        "INSERT INTO delivery_log SELECT version, account_id, gen_random_uuid(), event_id, client_event_id,"
        " destination_id, received_at, processed_at, status, attempts, reason, response_status,"
        " next_attempt_at, position FROM delivery_log LIMIT 1 RETURNING delivery_id",
    )
    with pytest.raises(rebuild.DifferentError) as raised:
        build()
    assert raised.value.deliveries == [stray]


def test_a_difference_that_came_after_the_great_comparison_is_found_at_the_switch(
    database: Database, monkeypatch
):
    connection = database.connect()
    happen(connection)
    logs.project(connection)
    compare = rebuild._Rebuild.compare
    spoilt = []

    def compare_and_spoil(self) -> int:
        position = compare(self)
        delivery = Delivery(connection).received()
        logs.project(connection)
        connection.execute("UPDATE delivery_log SET reason = 'x' WHERE delivery_id = %s", [delivery.id])
        spoilt.append(delivery.id)
        return position

    monkeypatch.setattr(rebuild._Rebuild, "compare", compare_and_spoil)
    with pytest.raises(rebuild.DifferentError) as raised:
        build()
    assert raised.value.deliveries == spoilt


def test_one_rebuild_at_a_time(database: Database):
    other = database.connect_owner()
    other.execute("SELECT pg_advisory_lock(%s)", [rebuild._ONE_AT_A_TIME])
    with pytest.raises(rebuild.RebuildError, match="another rebuild"):
        build()


def test_what_an_interrupted_rebuild_left_is_removed_by_the_next(database: Database):
    connection, owner = database.connect(), database.connect_owner()
    happen(connection)
    logs.project(connection)
    owner.execute("CREATE TABLE delivery_log_v2 (LIKE delivery_log)")
    owner.execute("INSERT INTO projection_checkpoint (name, version) VALUES ('delivery_log', 2)")
    owner.execute("CREATE TABLE delivery_log_v3 PARTITION OF delivery_log FOR VALUES IN (3)")
    assert build().version in {2, 3}
    assert len(connection.execute(VERSIONS).fetchall()) == 1


def test_a_reader_in_a_long_transaction_delays_the_removal_only(database: Database, monkeypatch):
    monkeypatch.setattr(rebuild, "RETIRE_SECONDS", 0.5)
    connection, reader = database.connect(), database.connect(autocommit=False)
    happen(connection)
    logs.project(connection)
    reader.execute("SELECT count(*) FROM delivery_log")
    with reading(database) as readings:
        assert build().left == ["delivery_log_v1"]
    assert max(readings.took) < 2
    reader.rollback()
    monkeypatch.setattr(rebuild, "RETIRE_SECONDS", 10)
    assert build() == rebuild.Rebuilt(version=3, rows=40, left=[])
    assert connection.execute(VERSIONS).fetchall() == [("delivery_log_v3",)]


class Readings:
    """What readers saw meanwhile, and how long each reading took."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.counts: list[int] = []
        self.took: list[float] = []
        self.errors: list[Exception] = []


@contextmanager
def reading(database: Database) -> Iterator[Readings]:
    readings = Readings()

    def read() -> None:
        connection = database.connect()
        query = (
            "SELECT count(*) FROM delivery_log"
            " WHERE account_id = %s"
            " AND version = (SELECT active FROM projection WHERE name = 'delivery_log')"
        )
        try:
            while not readings.stop.is_set():
                began = time.monotonic()
                readings.counts.append(stores.number(connection, query, stores.ACCOUNT))
                readings.took.append(time.monotonic() - began)
        except Exception as error:  # noqa: BLE001 - handed to the test
            readings.errors.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield readings
    finally:
        readings.stop.set()
        thread.join()


def test_rebuilt_logs_equal_the_live_ones_under_load(database: Database):
    """Writers append, sealers and projectors go on, readers read: twice over, nobody fails or waits."""
    connection = database.connect()
    happen(connection, 60)
    logs.project(connection)
    stop = threading.Event()
    errors: list[Exception] = []

    def guarded(work) -> threading.Thread:
        def run() -> None:
            own = database.connect()
            try:
                while not stop.is_set():
                    work(own)
            except Exception as error:  # noqa: BLE001 - handed to the test
                errors.append(error)

        return threading.Thread(target=run)

    def write(own: stores.Connection) -> None:
        Delivery(own).received(Delivery(own)).attempted(1).succeeded(2)

    def follow(own: stores.Connection) -> None:
        stores.seal(own, 50)
        stores.project(own, blocks=3)

    threads = [guarded(write), guarded(write), guarded(follow), guarded(follow)]
    with reading(database) as readings:
        for thread in threads:
            thread.start()
        versions = [build().version for _ in range(2)]
        stop.set()
        for thread in threads:
            thread.join()
    logs.project(connection)
    assert (errors, readings.errors) == ([], [])
    assert versions == [2, 3]
    assert readings.counts == sorted(readings.counts)  # no reader ever saw a log with less in it
    assert max(readings.took) < 2
    assert build().version == 4  # at rest: the live ones equal what a fresh rebuild makes
