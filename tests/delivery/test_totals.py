"""The totals count each sealed event once, however many hosts count and wherever they are stopped."""

import asyncio
import threading
from collections import Counter
from uuid import uuid4

from django.core.management import call_command

from delivery import projections, queries
from eventstore import connections
from outbox.worker import housekeeping
from tests.databases import Database
from tests.delivery import logs
from tests.delivery.logs import Delivery
from tests.eventstore import stores


def count(connection: stores.Connection, blocks: int = 100) -> None:
    """Seal all, and count to the last block."""
    stores.seal_all(connection)
    while stores.project(connection, projections.TOTALS, blocks):
        pass


def types() -> dict[str, int]:
    found: Counter[str] = Counter()
    for one in queries.totals():
        found[one.type] += one.number
    return dict(found)


def attempts() -> dict[str, int]:
    found: Counter[str] = Counter()
    for one in queries.totals():
        if one.attempt:
            found[one.reason] += one.number
    return dict(found)


def test_nothing_has_happened(database: Database):
    count(database.connect())
    assert queries.totals() == []


def test_events_are_counted_by_type_and_attempts_by_outcome(database: Database):
    connection = database.connect()
    Delivery(connection).received(Delivery(connection)).attempted(1).succeeded(2)
    Delivery(connection).received().interrupted(1).attempted(2, "dns", None).exhausted(3, "dns", None)
    Delivery(connection).received().attempted(1).cancelled().requested().succeeded(2)
    Delivery(connection, account=uuid4()).received().exhausted(None, "invalid_request", None)
    # Words of others are no outcome: they would make a row each.
    stores.append(connection, kind="account.updated", data={"reason": "because", "attempt": 1})
    count(connection)
    assert types() == {
        "event.received": 4,
        "delivery.attempted": 3,
        "delivery.succeeded": 2,
        "delivery.exhausted": 2,
        "delivery.interrupted": 1,
        "delivery.cancelled": 1,
        "delivery.requested": 1,
        "account.updated": 1,
    }
    assert attempts() == {"server_error": 2, "delivered": 2, "interrupted": 1, "dns": 2}
    by_reason = {(one.type, one.reason, one.attempt): one.number for one in queries.totals()}
    assert by_reason["delivery.exhausted", "invalid_request", False] == 1
    assert by_reason["delivery.cancelled", "destination_deleted", False] == 1
    assert by_reason["account.updated", "", False] == 1


def test_what_is_not_sealed_is_not_counted(database: Database):
    connection = database.connect()
    Delivery(connection).received()
    assert not stores.project(connection, projections.TOTALS)
    assert queries.totals() == []


def test_hosts_that_count_at_once_count_each_event_once(database: Database):
    connection = database.connect()
    for _ in range(60):
        Delivery(connection).received().attempted(1).succeeded(2)
        stores.seal(connection)

    def follow() -> None:
        own = database.connect()
        for _ in range(200):
            stores.project(own, projections.TOTALS, 1)

    threads = [threading.Thread(target=follow) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    count(connection)
    assert types() == {"event.received": 60, "delivery.attempted": 60, "delivery.succeeded": 60}


def test_one_that_does_not_commit_has_counted_nothing(database: Database):
    connection, dies = database.connect(), database.connect(autocommit=False)
    Delivery(connection).received()
    stores.seal_all(connection)
    assert stores.project(dies, projections.TOTALS) == 1
    dies.rollback()
    count(connection)
    assert types() == {"event.received": 1}


def test_portions_make_no_difference(database: Database):
    connection, owner = database.connect(), database.connect_owner()
    for number in range(12):
        Delivery(connection).received().attempted(1).interrupted(2)
        if number % 3 == 0:
            count(connection, blocks=1)
    count(connection)
    step_by_step = queries.totals()
    owner.execute("INSERT INTO projection_checkpoint (name, version) VALUES ('delivery_total', 2)")
    while stores.number(owner, "SELECT pusher.project_version('delivery_total', 2, 1000)"):
        pass
    assert queries.totals() == step_by_step  # the other version is not seen before it is switched to
    owner.execute("UPDATE projection SET active = 2 WHERE name = 'delivery_total'")
    assert queries.totals() == step_by_step


def test_deleted_accounts_go_on_counting(database: Database):
    """A counter that goes down looks like a restart to whoever reads it."""
    connection = database.connect()
    gone = uuid4()
    Delivery(connection, account=gone).received().succeeded(1)
    count(connection)
    logs.delete_account(connection, gone)
    count(connection)
    assert types() == {"event.received": 1, "delivery.succeeded": 1, "account.deleted": 1}


def test_a_rebuild_of_the_logs_leaves_the_totals_alone(database: Database):
    connection = database.connect()
    Delivery(connection).received().succeeded(1)
    logs.project(connection)
    count(connection)
    before = queries.totals()
    call_command("rebuild_logs")
    Delivery(connection).received()
    count(connection)
    assert types() == {"event.received": 2, "delivery.succeeded": 1}
    assert len(before) == 2


def test_the_workers_keep_them(database: Database):
    connection = database.connect()
    Delivery(connection).received()

    async def keep_house() -> None:
        async with await connections.connect() as own:
            for job in (*housekeeping.sealing(), *housekeeping.projecting()):
                await job.work(own)

    asyncio.run(keep_house())
    assert types() == {"event.received": 1}
