"""A sample event goes to one destination, the way of all events, and to nobody's cost."""

import hashlib
import threading
from uuid import UUID, uuid4

import orjson
import pytest
from django.core.management import call_command
from django.db import connections, transaction

from accounts import operations
from delivery import queries
from outbox import requests, worker
from tests.outbox import people
from tests.outbox.test_claims import Engine
from tests.outbox.workers import Alice


@pytest.fixture(autouse=True)
def quick(settings):
    settings.DESTINATION_ALLOW = ["127.0.0.0/8"]


@pytest.fixture
def alice(database):
    return Alice(limit=2)


def drain():
    worker.drain(slot=0, seconds=0.4, hand_over=lambda: None)


def send_sample(alice, destination, actor=None):
    return requests.send_sample(
        actor=actor or alice.user, account_id=alice.account_id, destination_id=destination
    )


def everything(sql):
    """What an accepted event leaves, and nothing else."""
    return tuple(
        sql.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        for table in ("outbox", "payload", "event_key", "event")
    )


def test_it_reaches_that_destination_alone_like_any_event(alice, receiver, sql):
    alice.sends_to(receiver.url("/other"))
    destination = alice.sends_to(receiver.url("/hook"))
    sample = send_sample(alice, destination)
    alice.posts("order-1")
    drain()
    (tested, normal) = sorted(receiver.at("/hook"), key=lambda one: one.headers["cl-x-event-id"] == "order-1")
    assert len(receiver.at("/other")) == 1
    assert tested.headers["cl-x-event-id"] == sample.client_event_id
    assert tested.headers["webhook-id"] == str(sample.delivery_id)
    assert tested.headers.keys() == normal.headers.keys()
    body = orjson.loads(tested.body)
    assert (body["test"], body["destination_id"]) == (True, str(destination))
    assert body["sent_timestamp"].endswith("Z")
    assert len(tested.body) < 500
    log = queries.detail(alice.account_id, sample.delivery_id).log
    assert (log.status, log.attempts, log.client_event_id) == ("success", 1, sample.client_event_id)
    assert log.received_at == sample.received_at
    call_command("verify")


def test_a_get_carries_it_in_its_query(alice, receiver, sql):
    destination = alice.sends_to(receiver.url("/hook"), method="GET")
    send_sample(alice, destination)
    drain()
    (seen,) = receiver.seen
    assert "test=true" in seen.query
    assert f"destination_id={destination}" in seen.query


def test_it_leaves_what_an_accepted_event_leaves_and_who_asked(alice, sql):
    destination = alice.sends_to(people.NOWHERE)
    before = everything(sql)
    sample = send_sample(alice, destination)
    assert everything(sql) == tuple(map(sum, zip(before, (1, 1, 1, 2), strict=True)))
    client_id = sample.client_event_id
    assert client_id.startswith("test-")
    event = UUID(client_id.removeprefix("test-"))
    data, digest, at = sql.execute(
        "SELECT data, payload_digest, recorded_at FROM event WHERE type = 'event.received'"
        " AND stream_id = %s",
        [event],
    ).fetchone()
    body, salt = sql.execute("SELECT body, salt FROM payload WHERE event_id = %s", [event]).fetchone()
    assert data == {
        "event_id": client_id,
        "size": len(body),
        "deliveries": [[str(sample.delivery_id), str(destination)]],
    }
    assert (hashlib.sha256(salt + body).digest(), at) == (digest, sample.received_at)
    assert sql.execute(
        "SELECT stream_id, version, data FROM event WHERE type = 'destination.tested'"
    ).fetchone() == (
        destination,
        2,
        {
            "destination": str(destination),
            "event": str(event),
            "delivery": str(sample.delivery_id),
            "actor": str(alice.user.pk),
        },
    )
    row = sql.execute(
        "SELECT delivery_id, event_id, destination_id, attempt, base, version, size, fence, held FROM outbox"
    ).fetchone()
    assert row == (sample.delivery_id, event, destination, 0, 0, 0, len(body), 0, False)


def test_it_spends_nothing_of_the_accounts_limit(alice, sql):
    destination = alice.sends_to(people.NOWHERE)
    for _ in range(5):
        send_sample(alice, destination)
    alice.posts("order-1", "order-2")  # as many as the account may in a second; it raises when one is refused
    assert sql.execute("SELECT count(*) FROM outbox").fetchone() == (7,)


def test_an_accept_of_the_account_does_not_wait_for_it(alice, sql):
    """Not even for a process that is stopped in the middle."""
    destination = alice.sends_to(people.NOWHERE)
    alice.posts("order-1")
    with transaction.atomic():
        send_sample(alice, destination)
        poster = threading.Thread(target=alice.posts, args=["order-2"])
        poster.start()
        poster.join(5)
        assert not poster.is_alive()
        assert sql.execute("SELECT count(*) FROM event_key WHERE client_id = 'order-2'").fetchone() == (1,)


def test_it_waits_for_a_destination_that_is_paused(alice, receiver, sql):
    destination = alice.sends_to(receiver.url("/hook"))
    ids = {"actor": alice.user, "account_id": alice.account_id, "destination_id": destination}
    operations.pause_destination(**ids)
    sample = send_sample(alice, destination)
    assert sql.execute("SELECT held FROM outbox").fetchall() == [(True,)]
    engine = Engine()
    assert engine.take() == []
    operations.resume_destination(**ids)
    assert engine.tend() == 1
    (claim,) = engine.take()
    engine.close()
    assert claim.delivery_id == sample.delivery_id


def test_it_is_refused_where_nothing_is_sent(alice, sql):
    destination = alice.sends_to(people.NOWHERE)
    bob = Alice()
    before = everything(sql)
    for wanted in (uuid4(), bob.sends_to(people.NOWHERE)):
        with pytest.raises(operations.NotFound):
            send_sample(alice, wanted)
    with pytest.raises(operations.NotFound):
        send_sample(alice, destination, actor=bob.user)
    operations.add_member(
        actor=alice.user, account_id=alice.account_id, email=bob.user.email, role="Normal user"
    )
    with pytest.raises(operations.NotAllowed):
        send_sample(alice, destination, actor=bob.user)
    operations.update_destination(
        actor=alice.user,
        account_id=alice.account_id,
        destination_id=destination,
        changes={"active": False},
    )
    with pytest.raises(requests.DestinationInactive):
        send_sample(alice, destination)
    assert everything(sql)[:3] == before[:3]


def test_what_is_rolled_back_leaves_nothing(alice, sql):
    destination = alice.sends_to(people.NOWHERE)
    before = everything(sql)
    with transaction.atomic():
        send_sample(alice, destination)
        transaction.set_rollback(True)
    assert everything(sql) == before


def test_a_deletion_of_the_account_waits_and_takes_it_along(alice, sql):
    destination = alice.sends_to(people.NOWHERE)

    def delete():
        try:
            operations.delete_account(actor=alice.user, account_id=alice.account_id)
        finally:
            connections.close_all()

    deleting = threading.Thread(target=delete)
    with transaction.atomic():
        send_sample(alice, destination)
        deleting.start()
        deleting.join(0.3)
        assert deleting.is_alive()
    deleting.join(10)
    people.wait_until(lambda: sql.execute("SELECT pusher.purge(0::smallint, 100)").fetchone() == (0,))
    assert everything(sql)[:2] == (0, 0)
    assert sql.execute("SELECT count(*) FROM event WHERE type = 'delivery.cancelled'").fetchone() == (1,)


def test_many_at_once_are_all_sent(alice, receiver, sql):
    destination = alice.sends_to(receiver.url("/hook"))

    def ask():
        try:
            send_sample(alice, destination)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    versions = sql.execute("SELECT version FROM event WHERE stream_id = %s ORDER BY 1", [destination])
    assert [version for (version,) in versions.fetchall()] == list(range(1, 8))
    drain()
    assert len({one.headers["webhook-id"] for one in receiver.seen}) == 6
