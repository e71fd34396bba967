"""The log says what became of each delivery, however its events are cut into blocks."""

import asyncio
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from delivery import projections, queries
from eventstore import connections
from tests.databases import Database
from tests.delivery import logs
from tests.delivery.logs import Delivery
from tests.eventstore import stores

NEXT = datetime(2026, 11, 21, 1, 2, 3, 4, UTC)

# What happened after "received", and the row: status, attempts, reason, response, next attempt, tried or not.
CASES = {
    "nothing yet": (lambda d: d, ("pending", 0, "", None, None, False)),
    "delivered at once": (lambda d: d.succeeded(1), ("success", 1, "delivered", 204, None, True)),
    "failed, to be tried again": (lambda d: d.attempted(1), ("pending", 1, "server_error", 500, NEXT, True)),
    "failed without an answer": (
        lambda d: d.attempted(1).attempted(2, "dns", None),
        ("pending", 2, "dns", None, NEXT, True),
    ),
    "delivered after failures": (
        lambda d: d.attempted(1).attempted(2).succeeded(3),
        ("success", 3, "delivered", 204, None, True),
    ),
    "exhausted by an attempt": (
        lambda d: d.attempted(1).exhausted(2),
        ("failed", 2, "client_error", 400, None, True),
    ),
    # The last attempt's response stays, the reason is that of the end.
    "exhausted without another attempt": (
        lambda d: d.attempted(1).exhausted(None, "invalid_request"),
        ("failed", 1, "invalid_request", 500, None, True),
    ),
    "exhausted without any attempt": (
        lambda d: d.exhausted(None, "invalid_request"),
        ("failed", 0, "invalid_request", None, None, False),
    ),
    "the worker died": (
        lambda d: d.attempted(1).interrupted(2),
        ("pending", 2, "interrupted", None, None, True),
    ),
    "delivered after the worker died": (
        lambda d: d.interrupted(1).succeeded(2),
        ("success", 2, "delivered", 204, None, True),
    ),
    "cancelled while it waited": (
        lambda d: d.attempted(1).cancelled(),
        ("failed", 1, "destination_deleted", 500, None, True),
    ),
    "to be sent again": (
        lambda d: d.exhausted(1).requested(),
        ("pending", 1, "", 400, None, True),
    ),
    "sent again and delivered": (
        lambda d: d.exhausted(1).requested().attempted(2).succeeded(3),
        ("success", 3, "delivered", 204, None, True),
    ),
}


def row(delivery: Delivery) -> tuple:
    log = queries.log(delivery.account, delivery.id)
    assert (log.event_id, log.destination_id) == (delivery.event, delivery.destination)
    assert log.client_event_id == delivery.client_event_id
    tried = log.processed_at is not None
    return log.status, log.attempts, log.reason, log.response_status, log.next_attempt_at, tried


@pytest.mark.parametrize("portions", ["in one block", "in a block each"])
@pytest.mark.parametrize(("happened", "expected"), CASES.values(), ids=CASES.keys())
def test_what_happened_is_what_the_log_says(database: Database, happened, expected, portions):
    connection = database.connect()
    delivery = Delivery(connection).received()
    if portions == "in a block each":
        append = delivery._append

        def append_and_project(*names, **data):
            logs.project(connection)
            return append(*names, **data)

        delivery._append = append_and_project  # type: ignore[method-assign]  # a block between all events
    happened(delivery)
    logs.project(connection)
    assert row(delivery) == expected


def test_times_are_those_of_the_events(database: Database):
    connection = database.connect()
    delivery = Delivery(connection).received().attempted(1).attempted(2).cancelled()
    logs.project(connection)
    log = queries.log(delivery.account, delivery.id)
    times = dict(
        connection.execute("SELECT version, recorded_at FROM event WHERE stream_id = %s", [delivery.id])
    )
    received = stores.number(connection, "SELECT recorded_at FROM event WHERE stream_id = %s", delivery.event)
    assert (log.received_at, log.processed_at) == (received, times[2])


def test_each_destination_has_a_row(database: Database):
    connection = database.connect()
    one, other = Delivery(connection), Delivery(connection)
    one.received(other)
    other.succeeded(1)
    logs.project(connection)
    assert (row(one)[0], row(other)[0]) == ("pending", "success")


def test_an_event_without_destinations_has_no_row(database: Database):
    connection = database.connect()
    stores.append(connection, kind="event.received", data={"event_id": "e", "size": 1, "deliveries": []})
    logs.project(connection)
    assert queries.logs(stores.ACCOUNT).count() == 0


def test_other_events_leave_the_log_alone(database: Database):
    connection = database.connect()
    stores.append(connection, kind="destination.created", data={"destination": str(uuid4())})
    stores.append(
        connection, kind="delivery.succeeded", data={"attempt": 1}
    )  # of a delivery that nobody knows
    logs.project(connection)
    assert stores.number(connection, "SELECT count(*) FROM delivery_log") == 0


@pytest.mark.parametrize("portions", [1, 2])
def test_logs_of_a_deleted_account_are_hidden_at_once_and_go_in_slices(database: Database, portions):
    connection = database.connect()
    gone, stays = uuid4(), uuid4()
    for account in (gone, stays):
        for _ in range(5):
            Delivery(connection, account=account).received().succeeded(1)
    if portions == 2:
        logs.project(connection)
    late = Delivery(connection, account=gone).received()
    logs.delete_account(connection, gone)
    late.cancelled("account_deleted")  # the purge goes on after the deletion
    logs.project(connection)
    assert queries.logs(gone).count() == 0
    assert queries.logs(stays).count() == 5
    sweep_all()
    assert stores.number(connection, "SELECT count(*) FROM delivery_log") == 5
    assert queries.logs(stays).count() == 5
    Delivery(connection, account=gone).received()  # nothing of it comes back
    logs.project(connection)
    assert stores.number(connection, "SELECT count(*) FROM delivery_log") == 5


def sweep_all() -> None:
    async def sweep() -> None:
        async with await connections.connect() as connection:
            for _ in range(20):
                if not await projections.sweep(connection, most=2):
                    return
            raise AssertionError("the sweep does not come to an end")

    asyncio.run(sweep())


happenings = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(
            ["attempted", "succeeded", "exhausted", "interrupted", "cancelled", "requested", "seal"]
        ),
    ),
    max_size=25,
)


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(happenings=happenings)
def test_the_rows_do_not_depend_on_the_portions(database: Database, happenings):
    """Projected block by block, and all at once into another version: the same rows."""
    connection, owner = database.connect(), database.connect_owner()
    try:
        account = uuid4()
        deliveries = [Delivery(connection, account=account).received() for _ in range(3)]
        attempts = [0, 0, 0]
        for who, what in happenings:
            if what == "seal":
                logs.project(connection)
            elif what in {"cancelled", "requested"}:
                getattr(deliveries[who], what)()
            else:
                attempts[who] += 1
                getattr(deliveries[who], what)(attempts[who])
        logs.project(connection)
        version = another_version(owner)
        assert rows(owner, version, account) == rows(owner, 1, account)
    finally:
        connection.close()
        owner.close()


def another_version(owner: stores.Connection) -> int:
    version = 1 + stores.number(owner, "SELECT max(version) FROM projection_checkpoint")
    owner.execute(f"CREATE TABLE delivery_log_v{version} (LIKE delivery_log INCLUDING ALL)")
    owner.execute("INSERT INTO projection_checkpoint (name, version) VALUES ('delivery_log', %s)", [version])
    while stores.number(owner, "SELECT pusher.project_version('delivery_log', %s, 1000)", version):
        pass
    return version


def rows(owner: stores.Connection, version: int, account: UUID) -> list[dict]:
    query = f"SELECT to_jsonb(l) - 'version' FROM delivery_log_v{version} l WHERE account_id = %s ORDER BY delivery_id"  # noqa: E501 - a number
    return [found for (found,) in owner.execute(query, [account])]


MANY = 8_000
RECEIVED = """
INSERT INTO event (epoch, account_id, stream_id, version, type, data)
SELECT 1, %(account)s, md5('event' || i)::uuid, 1, 'event.received',
       jsonb_build_object('event_id', i::text, 'deliveries', jsonb_build_array(
           jsonb_build_array(md5('delivery' || i)::uuid, %(destination)s::uuid)))
  FROM generate_series(1, %(many)s) AS i
"""
SUCCEEDED = """
INSERT INTO event (epoch, account_id, stream_id, version, type, data)
SELECT 1, %(account)s, md5('delivery' || i)::uuid, 1, 'delivery.succeeded',
       '{"attempt": 1, "reason": "delivered", "status": 204}'
  FROM generate_series(1, %(many)s) AS i
"""


def test_a_burst_before_the_first_statistics_is_followed_at_once(database: Database):
    """Planned from the events' side, each of them met each of the news: minutes for a first full outbox."""
    owner = database.connect_owner()
    values = {"account": stores.ACCOUNT, "destination": uuid4(), "many": MANY}
    without_statistics(owner, "event")
    owner.execute(RECEIVED, values)
    logs.project(owner)
    owner.execute(SUCCEEDED, values)
    stores.seal_all(owner)
    owner.execute("ANALYZE event_position")
    owner.execute("SET statement_timeout = '4s'")  # it took minutes, and takes a moment
    while stores.project(owner):
        pass
    written = owner.execute("SELECT status, count(*) FROM delivery_log_v1 GROUP BY status").fetchall()
    assert written == [("success", MANY)]


def without_statistics(owner: stores.Connection, table: str) -> None:
    """As it is until autovacuum has come by."""
    owner.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)".encode())
    owner.execute(
        "SELECT pg_clear_attribute_stats(schemaname, tablename, attname, inherited) FROM pg_stats"
        " WHERE tablename = %s",
        [table],
    )
