"""A delivery is sent again on request: same id and bytes, next number, whatever else happens meanwhile."""

import threading
import time
from contextlib import contextmanager
from uuid import uuid4

import pytest
from django.core.management import call_command
from django.db import Error, connections, transaction

from accounts import operations
from config import owner as owners
from delivery import queries, rebuild
from eventstore import blocks, history, projector
from outbox import requests, wake, worker
from tests.outbox import people
from tests.outbox.workers import Alice, Worker, eventually
from tests.receivers import Answer

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def quick(settings):
    settings.DESTINATION_ALLOW = ["127.0.0.0/8"]
    settings.SHUTDOWN_GRACE_SECONDS = 10


@pytest.fixture
def alice(database):
    return Alice()


def drain():
    return worker.drain(slot=0, seconds=0.4, hand_over=lambda: None)


def drain_twice(sql):
    """With a retry that need not wait for its time."""
    drain()
    sql.execute("UPDATE outbox SET due_at = clock_timestamp()")
    drain()


def only_delivery(sql):
    return sql.execute("SELECT DISTINCT stream_id FROM event WHERE type LIKE 'delivery.%'").fetchone()[0]


def types(sql, delivery):
    rows = sql.execute("SELECT type, version FROM event WHERE stream_id = %s ORDER BY version", [delivery])
    found = rows.fetchall()
    assert [version for _, version in found] == list(range(1, len(found) + 1))
    return [kind.removeprefix("delivery.") for kind, _ in found]


def redeliver(alice, delivery):
    return requests.redeliver(actor=alice.user, account_id=alice.account_id, delivery_id=delivery)


def failed(alice, receiver, sql):
    """A delivery that has ended in failure, after its one attempt."""
    receiver.on("/hook", Answer(500))
    alice.sends_to(receiver.url("/hook"), schedule=())
    alice.posts("order-1", body=b'{"total": 1.10}')
    drain()
    return only_delivery(sql)


def rebuilt_logs_are_the_live_ones():
    blocks.seal_all()
    projector.catch_up_all("delivery_log")
    with owners.acting():
        assert rebuild.rebuild(lambda *_: None).rows == 1
    call_command("verify")


def in_thread(work):
    """Runs `work` beside this thread; the answer is a function that waits for its outcome or its error."""
    outcome = []

    def run():
        try:
            outcome.append(work())
        except Exception as error:  # noqa: BLE001 - handed to the test
            outcome.append(error)
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()

    def ended():
        thread.join(20)
        assert not thread.is_alive()
        return outcome[0]

    ended.is_waiting = thread.is_alive
    return ended


@contextmanager
def another_connection(work):
    """`work` done in a transaction that is open while the block runs, and committed after it."""
    began, may_end = threading.Event(), threading.Event()

    def hold():
        with transaction.atomic():
            answer = work()
            began.set()
            assert may_end.wait(20)
        return answer

    ended = in_thread(hold)
    assert began.wait(20) or ended()
    try:
        yield ended
    finally:
        may_end.set()
        ended()


def waits(ended, seconds=0.3):
    time.sleep(seconds)
    return ended.is_waiting()


# --- what it does -------------------------------------------------------------------------------------------


def test_what_failed_is_sent_again_as_the_next_attempt(alice, receiver, sql):
    delivery = failed(alice, receiver, sql)
    assert queries.detail(alice.account_id, delivery).log.status == "failed"
    receiver.on("/hook", Answer(200))
    log = redeliver(alice, delivery)
    assert (log.delivery_id, log.status, log.attempts, log.reason) == (delivery, "pending", 1, "")
    assert (log.response_status, log.next_attempt_at) == (500, None)
    drain()
    first, second = receiver.seen
    assert (second.headers["webhook-id"], second.body) == (first.headers["webhook-id"], b'{"total": 1.10}')
    assert [one.headers["cl-x-attempt"] for one in receiver.seen] == ["1", "2"]
    assert types(sql, delivery) == ["exhausted", "requested", "succeeded"]
    rebuilt_logs_are_the_live_ones()
    log = queries.log(alice.account_id, delivery)
    assert (log.status, log.attempts, log.response_status) == ("success", 2, 200)


def test_what_succeeded_is_sent_again_on_a_fresh_schedule(alice, receiver, sql):
    receiver.on("/hook", Answer(500), Answer(200), Answer(500))
    alice.sends_to(receiver.url("/hook"), schedule=(1,))
    alice.posts("order-1")
    drain_twice(sql)
    delivery = only_delivery(sql)
    assert types(sql, delivery) == ["attempted", "succeeded"]
    redeliver(alice, delivery)
    drain_twice(sql)
    assert types(sql, delivery)[2:] == ["requested", "attempted", "exhausted"]
    assert [one.headers["cl-x-attempt"] for one in receiver.seen] == ["1", "2", "3", "4"]
    rebuilt_logs_are_the_live_ones()
    log = queries.log(alice.account_id, delivery)
    assert (log.status, log.attempts, log.reason) == ("failed", 4, "server_error")


def test_the_request_is_on_record_with_its_actor(alice, receiver, sql):
    delivery = failed(alice, receiver, sql)
    redeliver(alice, delivery)
    (data,) = sql.execute("SELECT data FROM event WHERE type = 'delivery.requested'").fetchone()
    assert data.keys() == {"event", "destination", "actor"}
    assert data["actor"] == str(alice.user.pk)
    attempted = sql.execute("SELECT data FROM event WHERE type = 'delivery.exhausted'").fetchone()[0]
    assert {name: data[name] for name in ("event", "destination")} == {
        name: attempted[name] for name in ("event", "destination")
    }


def test_the_detail_shows_it_at_once_and_the_list_with_the_next_block(alice, receiver, sql):
    delivery = failed(alice, receiver, sql)
    redeliver(alice, delivery)
    assert queries.detail(alice.account_id, delivery).log.status == "pending"
    assert queries.log(alice.account_id, delivery).status == "failed"
    blocks.seal_all()
    projector.catch_up_all("delivery_log")
    assert queries.log(alice.account_id, delivery).status == "pending"


def test_a_delivery_that_was_never_tried_begins_with_its_first_attempt(alice, receiver, sql):
    destination = alice.sends_to(receiver.url("/hook"))
    ids = {"account_id": alice.account_id, "destination_id": destination}
    operations.pause_destination(actor=alice.user, **ids)
    alice.posts("order-1")
    set_active(alice, destination, active=False)
    drain()
    delivery = only_delivery(sql)
    assert types(sql, delivery) == ["cancelled"]
    set_active(alice, destination, active=True)
    operations.resume_destination(actor=alice.user, **ids)
    assert redeliver(alice, delivery).attempts == 0
    drain()
    (seen,) = receiver.seen
    assert seen.headers["cl-x-attempt"] == "1"
    rebuilt_logs_are_the_live_ones()


def set_active(alice, destination, *, active):
    operations.update_destination(
        actor=alice.user,
        account_id=alice.account_id,
        destination_id=destination,
        changes={"active": active},
    )


TROUBLES = {
    "paused": None,
    "resting": "INSERT INTO lane (destination_id, resting, probe_at)"
    " VALUES (%s, true, clock_timestamp() + interval '1 hour')",
    "crowded": "INSERT INTO lane (destination_id, crowded) VALUES (%s, true)",
}


@pytest.mark.parametrize("trouble", TROUBLES.values(), ids=TROUBLES.keys())
def test_it_is_held_while_the_destination_is_in_trouble(alice, receiver, sql, trouble):
    delivery = failed(alice, receiver, sql)
    (destination,) = sql.execute("SELECT id FROM accounts_destination").fetchone()
    sql.execute("DELETE FROM lane")
    if trouble is None:
        operations.pause_destination(
            actor=alice.user, account_id=alice.account_id, destination_id=destination
        )
    else:
        sql.execute(trouble, [destination])
    redeliver(alice, delivery)
    assert sql.execute("SELECT held FROM outbox").fetchall() == [(True,)]


def test_workers_hear_of_it_when_it_is_committed(alice, receiver, sql, database):
    delivery = failed(alice, receiver, sql)
    ear = database.connect()
    ear.execute(f"LISTEN {wake.CHANNEL}")
    with transaction.atomic():
        redeliver(alice, delivery)
        transaction.set_rollback(True)
    assert list(ear.notifies(timeout=0.2)) == []
    redeliver(alice, delivery)
    assert len(list(ear.notifies(timeout=5, stop_after=1))) == 1


def test_a_wake_up_that_is_lost_costs_nobody_the_answer(alice, receiver, sql, monkeypatch, caplog):
    delivery = failed(alice, receiver, sql)

    def lost():
        raise Error("gone")

    monkeypatch.setattr(wake, "_notify", lost)
    assert redeliver(alice, delivery).status == "pending"
    assert "gone" in caplog.text


# --- when it is refused -------------------------------------------------------------------------------------


def test_what_is_pending_is_refused_in_each_of_its_states(alice, receiver, sql):
    alice.sends_to(receiver.url("/hook"))
    alice.posts("order-1")
    (delivery,) = sql.execute("SELECT delivery_id FROM outbox").fetchone()
    states = (
        "held = true",
        "held = false, fence = 7, due_at = clock_timestamp() + interval '1 minute'",
        "fence = 0, due_at = clock_timestamp() + interval '1 hour'",
    )
    for state in states:
        sql.execute(f"UPDATE outbox SET {state}")
        with pytest.raises(requests.DeliveryPending):
            redeliver(alice, delivery)
    sql.execute("UPDATE outbox SET due_at = clock_timestamp()")
    drain()
    redeliver(alice, delivery)
    with pytest.raises(requests.DeliveryPending):
        redeliver(alice, delivery)
    assert types(sql, delivery) == ["succeeded", "requested"]


def test_a_destination_that_gets_nothing_and_content_that_is_gone_are_refused(alice, receiver, sql):
    delivery = failed(alice, receiver, sql)
    (destination,) = sql.execute("SELECT id FROM accounts_destination").fetchone()
    set_active(alice, destination, active=False)
    with pytest.raises(requests.DestinationInactive):
        redeliver(alice, delivery)
    set_active(alice, destination, active=True)
    (payload,) = sql.execute("DELETE FROM payload RETURNING body, salt, event_id").fetchall()
    with pytest.raises(requests.PayloadErased):
        redeliver(alice, delivery)
    sql.execute(
        "INSERT INTO payload (account_id, body, salt, event_id) VALUES (%s, %s, %s, %s)",
        [alice.account_id, *payload],
    )
    operations.delete_destination(actor=alice.user, account_id=alice.account_id, destination_id=destination)
    with pytest.raises(requests.DestinationDeleted):
        redeliver(alice, delivery)
    assert types(sql, delivery) == ["exhausted"]
    assert sql.execute("SELECT count(*) FROM outbox").fetchone() == (0,)


def test_what_is_no_delivery_of_the_account_is_unknown(alice, receiver, sql):
    delivery = failed(alice, receiver, sql)
    (event,) = sql.execute("SELECT event_id FROM event_key").fetchone()
    (destination,) = sql.execute("SELECT id FROM accounts_destination").fetchone()
    for wanted in (uuid4(), event, destination, alice.account_id):
        with pytest.raises(queries.NoSuchDeliveryError):
            redeliver(alice, wanted)
    bob = Alice()
    with pytest.raises(queries.NoSuchDeliveryError):
        redeliver(bob, delivery)
    with pytest.raises(operations.NotFound):
        requests.redeliver(actor=bob.user, account_id=alice.account_id, delivery_id=delivery)
    operations.add_member(
        actor=alice.user, account_id=alice.account_id, email=bob.user.email, role="Normal user"
    )
    with pytest.raises(operations.NotAllowed):
        requests.redeliver(actor=bob.user, account_id=alice.account_id, delivery_id=delivery)
    assert types(sql, delivery) == ["exhausted"]


# --- who else may be at it ----------------------------------------------------------------------------------


def test_of_many_at_once_one_is_taken(alice, receiver, sql):
    delivery = failed(alice, receiver, sql)
    outcomes = [ended() for ended in [in_thread(lambda: redeliver(alice, delivery)) for _ in range(6)]]
    refused = [outcome for outcome in outcomes if isinstance(outcome, requests.DeliveryPending)]
    assert (len(outcomes), len(refused)) == (6, 5)
    receiver.on("/hook", Answer(200))
    drain()
    assert types(sql, delivery) == ["exhausted", "requested", "succeeded"]


def test_a_settle_that_is_about_to_commit_leaves_it_pending_until_it_has(alice, receiver, sql, database):
    alice.sends_to(receiver.url("/hook"))
    alice.posts("order-1")
    settling = database.connect(autocommit=False)
    delivery = settle(settling)
    with pytest.raises(requests.DeliveryPending):
        redeliver(alice, delivery)
    settling.commit()
    assert redeliver(alice, delivery).attempts == 1


def settle(connection):
    """Claimed and settled as succeeded; the caller commits."""
    (row,) = connection.execute(
        "SELECT * FROM pusher.claim(0::smallint, 1, 1000, '1 minute', '{}', NULL, false)"
    ).fetchall()
    account, delivery, event, destination, attempt, _, fence, *_ = row
    data = (
        f'{{"attempt": {attempt}, "event": "{event}", "destination": "{destination}", "reason": "delivered"}}'
    )
    connection.execute(
        "SELECT * FROM pusher.settle(0::smallint, %s, %s, %s, %s, '{succeeded}', '{0}', %s::jsonb[],"
        " '{true}', '{20,50,80,5,300}')",
        [[account], [delivery], [fence], [attempt], [data]],
    )
    return delivery


def test_two_who_ask_while_a_row_of_the_same_key_is_coming_wait_for_each_other(
    alice, receiver, sql, database
):
    """Not even one who holds no lock of the account gets a second row, or a version twice."""
    delivery = failed(alice, receiver, sql)
    call = "SELECT pusher.redeliver(0::smallint, %s, %s, %s)"
    values = [alice.account_id, delivery, alice.user.pk]
    one, other = database.connect(autocommit=False), database.connect()
    assert one.execute(call, values).fetchone() == ("requested",)
    waiting = in_thread(lambda: other.execute(call, values).fetchone())
    assert waits(waiting)
    one.commit()
    assert waiting() == ("pending",)
    sql.execute("DELETE FROM outbox")
    assert one.execute(call, values).fetchone() == ("requested",)
    waiting = in_thread(lambda: other.execute(call, values).fetchone())
    assert waits(waiting)
    one.rollback()
    assert waiting() == ("requested",)
    assert types(sql, delivery) == ["exhausted", "requested", "requested"]


def test_a_deletion_of_the_account_waits_and_then_cancels_it(alice, receiver, sql):
    delivery = failed(alice, receiver, sql)
    with another_connection(lambda: redeliver(alice, delivery)):
        deleting = in_thread(lambda: operations.delete_account(actor=alice.user, account_id=alice.account_id))
        assert waits(deleting)
        purge(sql)
    assert deleting() is None
    purge(sql)
    assert types(sql, delivery) == ["exhausted", "requested", "cancelled"]
    for table in ("outbox", "payload", "purge"):
        assert sql.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)


def test_it_waits_for_a_deletion_of_the_account_and_then_finds_none(alice, receiver, sql):
    delivery = failed(alice, receiver, sql)
    with another_connection(lambda: operations.delete_account(actor=alice.user, account_id=alice.account_id)):
        asking = in_thread(lambda: redeliver(alice, delivery))
        assert waits(asking)
    assert isinstance(asking(), operations.NotFound)
    purge(sql)
    assert types(sql, delivery) == ["exhausted"]


def purge(sql):
    while sql.execute("SELECT pusher.purge(0::smallint, 100)").fetchone()[0]:
        pass


@pytest.mark.parametrize("is_deleted", [True, False], ids=["deleted", "made inactive"])
def test_a_destination_that_goes_meanwhile_is_sent_nothing(alice, receiver, sql, is_deleted):
    """Its order to purge is worked off before the row can be seen: the worker that claims it cancels it."""
    delivery = failed(alice, receiver, sql)
    (destination,) = sql.execute("SELECT id FROM accounts_destination").fetchone()
    ids = {"account_id": alice.account_id, "destination_id": destination}
    with another_connection(lambda: redeliver(alice, delivery)):
        if is_deleted:
            operations.delete_destination(actor=alice.user, **ids)
        else:
            set_active(alice, destination, active=False)
        purge(sql)
        assert sql.execute("SELECT count(*) FROM purge").fetchone() == (0,)
    drain()
    assert types(sql, delivery) == ["exhausted", "requested", "cancelled"]
    assert len(receiver.seen) == 1


def test_a_session_that_dies_leaves_nothing(alice, receiver, sql):
    delivery = failed(alice, receiver, sql)

    def die():
        with transaction.atomic():
            redeliver(alice, delivery)
            with connections["default"].cursor() as cursor:
                cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    assert isinstance(in_thread(die)(), Error)
    assert types(sql, delivery) == ["exhausted"]
    assert sql.execute("SELECT count(*) FROM outbox").fetchone() == (0,)


# --- other times, other processes ---------------------------------------------------------------------------


def test_a_delivery_of_an_older_epoch_is_sent_again_in_this_one(alice, receiver, sql, database):
    delivery = failed(alice, receiver, sql)
    people.restored(database)
    with pytest.raises(Error) as refused:
        redeliver(alice, delivery)
    assert history.is_restored(refused.value)
    call_command("after_restore")
    receiver.on("/hook", Answer(200))
    redeliver(alice, delivery)
    drain()
    assert types(sql, delivery) == ["exhausted", "requested", "succeeded"]  # no attempt that nobody made
    assert sql.execute("SELECT DISTINCT epoch FROM event WHERE stream_id = %s", [delivery]).fetchall() == [
        (1,),
        (2,),
    ]
    rebuilt_logs_are_the_live_ones()


@pytest.mark.slow
def test_a_worker_sends_a_sample_and_sends_it_again(alice, receiver, sql, database, tmp_path):
    destination = alice.sends_to(receiver.url("/hook"), schedule=())
    receiver.on("/hook", Answer(503), Answer(200))
    ids = {"actor": alice.user, "account_id": alice.account_id}
    with Worker(database, tmp_path / "log") as running:
        sample = requests.send_sample(destination_id=destination, **ids)
        (first,) = receiver.wait_for(1, timeout=20)
        running.delivers_all()
        log = requests.redeliver(delivery_id=sample.delivery_id, **ids)
        asked_at = time.time()
        assert (log.status, log.attempts) == ("pending", 1)
        _, second = receiver.wait_for(2)
        running.delivers_all()
        eventually(
            lambda: queries.logs(alice.account_id).filter(status="success", attempts=2).exists(),
            "the log",
            running,
        )
    assert second.at - asked_at < 2
    assert first.headers["cl-x-event-id"] == sample.client_event_id
    assert (first.body, first.headers["webhook-id"]) == (second.body, second.headers["webhook-id"])
    assert first.headers["webhook-id"] == str(sample.delivery_id)
    assert second.headers["cl-x-attempt"] == "2"
    rebuilt_logs_are_the_live_ones()
