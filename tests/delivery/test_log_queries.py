"""An account's log is listed newest first, by indexes that begin with the account, with attempts and data."""

from datetime import UTC, datetime
from uuid import UUID, uuid4

import psycopg
import pytest
from django.db import connection as django_connection
from django.db import transaction

from delivery import finding, queries
from delivery.finding import Wanted
from tests.databases import Database
from tests.delivery import logs
from tests.delivery.logs import Delivery
from tests.eventstore import stores


def test_the_newest_stand_first_and_other_accounts_are_not_seen(database: Database):
    connection = database.connect()
    made = [Delivery(connection, client_event_id=f"event {number}").received() for number in range(3)]
    Delivery(connection, account=uuid4()).received()
    logs.project(connection)
    found = queries.logs(stores.ACCOUNT)
    assert [log.delivery_id for log in found] == [delivery.id for delivery in reversed(made)]


def test_an_unknown_delivery_and_another_accounts_are_alike(database: Database):
    connection = database.connect()
    delivery = Delivery(connection, account=uuid4()).received()
    logs.project(connection)
    for wanted in (delivery.id, uuid4()):
        with pytest.raises(queries.NoSuchDeliveryError):
            queries.log(stores.ACCOUNT, wanted)


def test_attempts_are_listed_in_order_up_to_this_moment(database: Database):
    event = uuid4()
    delivery = (
        Delivery(database.connect(), event=event, id=UUID(bytes=event.bytes[:6] + uuid4().bytes[6:]))
        .received()
        .attempted(1)
        .interrupted(2)
        .exhausted(3)
        .requested()
        .succeeded(4)
    )
    attempts = queries.detail(delivery.account, delivery.id).attempts  # nothing is sealed yet
    assert [(one.number, one.reason, one.response_status) for one in attempts] == [
        (1, "server_error", 500),
        (2, "interrupted", None),
        (3, "client_error", 400),
        (4, "delivered", 204),
    ]
    assert attempts[0].next_attempt_at is not None
    assert (attempts[0].address, attempts[0].detail, attempts[0].duration_us) == ("192.0.2.1", "d", 1234)


def test_received_data_is_the_bytes_or_nothing_once_erased(database: Database):
    connection = database.connect()
    event = uuid4()
    connection.execute("INSERT INTO payload VALUES (%s, %s, '{ }', 'salt')", [stores.ACCOUNT, event])
    assert queries.received_data(stores.ACCOUNT, event) == b"{ }"
    assert queries.received_data_of(stores.ACCOUNT, [event], at_most=2) == {event: None}
    connection.execute("DELETE FROM payload")
    assert queries.received_data(stores.ACCOUNT, event) is None


def test_readers_see_one_version_only(database: Database):
    connection, owner = database.connect(), database.connect_owner()
    delivery = Delivery(connection).received()
    logs.project(connection)
    owner.execute("CREATE TABLE delivery_log_v2 PARTITION OF delivery_log FOR VALUES IN (2)")
    owner.execute("CREATE TEMP TABLE copied AS SELECT * FROM delivery_log")
    owner.execute("UPDATE copied SET version = 2, reason = 'new'")
    owner.execute("INSERT INTO delivery_log SELECT * FROM copied")
    assert [log.reason for log in queries.logs(delivery.account)] == [""]
    owner.execute("UPDATE projection SET active = 2 WHERE name = 'delivery_log'")
    assert [log.reason for log in queries.logs(delivery.account)] == ["new"]


def test_a_page_comes_from_the_version_that_is_active(database: Database):
    connection, owner = database.connect(), database.connect_owner()
    delivery = Delivery(connection).received()
    logs.project(connection)
    owner.execute("CREATE TABLE delivery_log_v2 PARTITION OF delivery_log FOR VALUES IN (2)")
    owner.execute("UPDATE projection SET active = 2 WHERE name = 'delivery_log'")
    assert finding.find(delivery.account, most=5) == []
    owner.execute("UPDATE projection SET active = 1 WHERE name = 'delivery_log'")
    owner.execute("DROP TABLE delivery_log_v2")
    assert [log.delivery_id for log in finding.find(delivery.account, most=5)] == [delivery.id]


def test_a_deleted_accounts_page_is_empty_at_once(database: Database):
    connection = database.connect()
    gone = uuid4()
    delivery = Delivery(connection, account=gone).received().succeeded(1)
    logs.project(connection)
    wanted = [
        Wanted(),
        Wanted(delivery=delivery.id),
        Wanted(event=delivery.client_event_id),
        Wanted(prefix="c"),
    ]
    assert [len(finding.find(gone, one, most=5)) for one in wanted] == [1, 1, 1, 1]
    logs.delete_account(connection, gone)
    logs.project(connection)
    assert [len(finding.find(gone, one, most=5)) for one in wanted] == [0, 0, 0, 0]


def test_the_version_that_is_being_read_waits_for_its_reader(database: Database):
    """Found by a page's statement, it can't be dropped before that ends: the reader never meets a gap."""
    reader = database.connect(autocommit=False)
    connection = database.connect()
    Delivery(connection).received()
    logs.project(connection)
    reader.execute("SELECT pusher.find_logs(%s, 1, true" + ", NULL" * 12 + ", 1000)", [uuid4()])
    waits = database.connect_owner(options="-c lock_timeout=100ms")
    with pytest.raises(psycopg.errors.LockNotAvailable):
        waits.execute("ALTER TABLE delivery_log DETACH PARTITION delivery_log_v1 CONCURRENTLY")


LISTS = {
    "newest": Wanted(),
    "by destination": Wanted(destination=uuid4()),
    "pending": Wanted(status="pending"),
    "failed": Wanted(status="failed"),
    "by client's id": Wanted(event="event 5"),
    "processed since": Wanted(processed_from=datetime(2030, 1, 1, tzinfo=UTC)),
    "search": Wanted(prefix="event 12"),
    "search by URL": Wanted(prefix="nothing", searched=[uuid4(), uuid4()]),
}


@pytest.mark.slow
@pytest.mark.parametrize("wanted", LISTS.values(), ids=LISTS.keys())
def test_a_page_is_found_by_an_index_of_the_account(database: Database, wanted):
    connection, owner = database.connect(), database.connect_owner()
    fill(connection, accounts=20, each=500)
    owner.execute("ANALYZE")
    with transaction.atomic():
        finding.find(stores.ACCOUNT, wanted, most=51)
        with django_connection.cursor() as cursor:
            cursor.execute(
                "SELECT seq_scan, idx_scan FROM pg_stat_xact_user_tables WHERE relname = 'delivery_log_v1'"
            )
            whole, by_index = cursor.fetchone()
    assert (whole, by_index > 0) == (0, True)


def fill(connection: stores.Connection, *, accounts: int, each: int) -> None:
    connection.execute(
        """
        INSERT INTO delivery_log
        SELECT 1, CASE a WHEN 1 THEN %s ELSE gen_random_uuid() END, gen_random_uuid(), gen_random_uuid(),
               'event ' || i, gen_random_uuid(), now() - i * interval '1 second', now(),
               CASE WHEN i %% 50 = 0 THEN 'pending' WHEN i %% 49 = 0 THEN 'failed' ELSE 'success' END, 1, '',
               200, NULL, i
          FROM generate_series(1, %s) a, generate_series(1, %s) i
        """,
        [stores.ACCOUNT, accounts, each],
    )
