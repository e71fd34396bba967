"""An account's log is listed newest first, by indexes that begin with the account, with attempts and data."""

from uuid import UUID, uuid4

import pytest

from delivery import queries
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


LISTS = {
    "newest": lambda q: q,
    "by destination": lambda q: q.filter(destination_id=uuid4()),
    "pending": lambda q: q.filter(status="pending"),
    "failed": lambda q: q.filter(status="failed"),
    "by client's id": lambda q: q.filter(client_event_id="event 5"),
    "processed since": lambda q: q.filter(processed_at__gte="2030-01-01T00:00Z"),
}


@pytest.mark.parametrize("narrow", LISTS.values(), ids=LISTS.keys())
def test_a_page_is_found_by_an_index_of_the_account(database: Database, narrow):
    connection, owner = database.connect(), database.connect_owner()
    fill(connection, accounts=20, each=500)
    owner.execute("ANALYZE")
    plan = narrow(queries.logs(stores.ACCOUNT))[:50].explain(analyze=True)
    assert "Seq Scan on delivery_log_v1" not in plan
    assert "delivery_log_v1" in plan
    assert "account_id = " in plan


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
