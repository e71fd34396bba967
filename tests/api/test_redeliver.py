"""Asking for a delivery again and for a sample, at the door: who may, what is answered and refused."""

from uuid import UUID

import pytest
from django.db import connection

from accounts import operations
from eventstore import append
from eventstore.events import NewEvent
from outbox import requests
from tests.api.conftest import add_destination
from tests.outbox import people

MISSING = "0199aaaa-0000-7000-8000-000000000000"


def sampled(person, destination) -> requests.Sample:
    return requests.send_sample(
        actor=person.user, account_id=destination.account_id, destination_id=destination.pk
    )


def end(sample, account, kind="exhausted", **outcome):
    """The delivery ends, as a worker would record it."""
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM outbox WHERE delivery_id = %s RETURNING event_id, attempt", [sample.delivery_id]
        )
        event, attempt = cursor.fetchone()
    data = {"attempt": attempt + 1, "event": str(event), "destination": str(sample.destination_id)}
    data |= {"reason": "server_error", "status": 500} | outcome
    made = NewEvent(type=f"delivery.{kind}", account_id=account.pk, stream_id=sample.delivery_id, data=data)
    append.append([made])


@pytest.fixture
def failed(alice, account, destination) -> requests.Sample:
    """A delivery that has failed."""
    sample = sampled(alice, destination)
    end(sample, account)
    return sample


def log_path(account, sample, verb="") -> str:
    return f"/accounts/{account.pk}/logs/{sample.delivery_id}/{verb}"


def redeliver(person, account, sample):
    return person.post(log_path(account, sample, "redeliver/"))


def problem(reply) -> str:
    assert reply["Content-Type"] == "application/problem+json"
    told = reply.json()
    assert told["status"] == reply.status_code
    assert told["detail"]
    return told["type"].removeprefix("urn:data-pusher:problem:")


def refusal(reply) -> tuple[int, str]:
    return reply.status_code, problem(reply)


# --- redeliver ----------------------------------------------------------------------------------------------


def test_the_answer_is_the_log_and_it_is_pending(alice, account, failed):
    reply = redeliver(alice, account, failed)
    assert reply.status_code == 200
    told = reply.json()
    assert (told["success"], told["message"]) == (True, "Data Received")
    shown = told["data"]
    assert (shown.pop("received_timestamp"), shown.pop("processed_timestamp")) != (None, None)
    assert shown == {
        "id": str(failed.delivery_id),
        "event_id": failed.client_event_id,
        "account_id": str(account.pk),
        "destination_id": str(failed.destination_id),
        "status": "pending",
        "attempts": 1,
        "reason": "",
        "response_status": 500,
        "next_attempt_timestamp": None,
    }


def test_the_log_shows_it_right_after_with_all_its_attempts(alice, account, failed):
    before = alice.get(log_path(account, failed)).json()
    assert (before["status"], before["reason"]) == ("failed", "server_error")
    redeliver(alice, account, failed)
    after = alice.get(log_path(account, failed)).json()
    assert (after["status"], after["attempts"]) == ("pending", 1)
    assert [attempt["number"] for attempt in after["attempt_list"]] == [1]
    end(failed, account, "succeeded", reason="delivered", status=204)
    again = alice.get(log_path(account, failed)).json()
    assert (again["status"], again["attempts"], again["response_status"]) == ("success", 2, 204)
    assert [attempt["number"] for attempt in again["attempt_list"]] == [1, 2]


def test_what_is_pending_is_a_conflict(alice, account, failed):
    redeliver(alice, account, failed)
    assert refusal(redeliver(alice, account, failed)) == (409, "delivery-pending")


def test_a_delivery_to_nowhere_is_a_conflict_with_its_reason(alice, account, destination, failed):
    ids = {"actor": alice.user, "account_id": account.pk, "destination_id": destination.pk}
    operations.update_destination(**ids, changes={"active": False})
    assert refusal(redeliver(alice, account, failed)) == (409, "destination-inactive")
    operations.delete_destination(**ids)
    assert refusal(redeliver(alice, account, failed)) == (409, "destination-deleted")


def test_erased_content_is_a_conflict(alice, account, failed):
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM payload")
    assert refusal(redeliver(alice, account, failed)) == (409, "payload-erased")


def test_only_an_admin_asks_for_it(bob, charlie, account, foreign, failed):
    assert refusal(redeliver(bob, account, failed)) == (403, "forbidden")
    assert refusal(redeliver(charlie, account, failed)) == (404, "not-found")
    assert refusal(redeliver(charlie, foreign, failed)) == (404, "not-found")
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM outbox")
        assert cursor.fetchone() == (0,)


@pytest.mark.parametrize("wanted", [MISSING, "7", "x" * 300])
def test_an_unknown_delivery_is_not_found(alice, account, wanted):
    assert refusal(alice.post(f"/accounts/{account.pk}/logs/{wanted}/redeliver/")) == (404, "not-found")


def test_it_takes_no_content_and_no_parameters(alice, account, failed):
    path = log_path(account, failed, "redeliver/")
    assert refusal(alice.post(path, {"attempt": 9})) == (400, "invalid-data")
    assert refusal(alice.post(path + "?force=1")) == (400, "invalid-data")
    assert alice.get(path).status_code == 405
    assert alice.post(path, {}).status_code == 200


# --- test ---------------------------------------------------------------------------------------------------


def ask_for_sample(person, destination, content=None):
    path = f"/accounts/{destination.account_id}/destinations/{destination.pk}/test/"
    return person.post(path, content)


def test_a_sample_is_on_its_way_and_in_the_logs(alice, account, destination):
    reply = ask_for_sample(alice, destination)
    assert reply.status_code == 201
    sample = reply.json()["data"]
    assert sample.keys() == {"id", "event_id", "destination_id", "received_timestamp"}
    assert sample["destination_id"] == str(destination.pk)
    assert sample["event_id"].startswith("test-")
    log = alice.get(f"/accounts/{account.pk}/logs/{sample['id']}/").json()
    assert (log["status"], log["attempts"], log["attempt_list"]) == ("pending", 0, [])
    assert {name: log[name] for name in sample} == sample
    assert log["received_data"]["test"] is True
    assert log["received_data"]["destination_id"] == str(destination.pk)


def test_each_sample_is_another_event(alice, destination):
    asked = [ask_for_sample(alice, destination).json()["data"] for _ in range(3)]
    assert len({sample["event_id"] for sample in asked}) == len({UUID(sample["id"]) for sample in asked}) == 3


def test_an_inactive_destination_is_a_conflict_and_a_paused_one_is_not(alice, account):
    inactive = add_destination(alice, account, active=False)
    assert refusal(ask_for_sample(alice, inactive)) == (409, "destination-inactive")
    paused = add_destination(alice, account)
    operations.pause_destination(actor=alice.user, account_id=account.pk, destination_id=paused.pk)
    assert ask_for_sample(alice, paused).status_code == 201


def test_only_an_admin_asks_for_a_sample(alice, bob, charlie, foreign, destination):
    assert refusal(ask_for_sample(bob, destination)) == (403, "forbidden")
    assert refusal(ask_for_sample(charlie, destination)) == (404, "not-found")
    reply = charlie.post(f"/accounts/{foreign.pk}/destinations/{destination.pk}/test/")
    assert refusal(reply) == (404, "not-found")
    assert refusal(ask_for_sample(alice, destination, {"body": {}})) == (400, "invalid-data")


def test_an_idempotency_key_makes_one_sample_of_two_requests(alice, destination):
    path = f"/api/v1/accounts/{destination.account_id}/destinations/{destination.pk}/test/"
    replies = [alice._client().post(path, {}, format="json", HTTP_IDEMPOTENCY_KEY="once") for _ in range(2)]
    assert [reply.status_code for reply in replies] == [201, 201]
    assert replies[0].json() == replies[1].json()
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM outbox")
        assert cursor.fetchone() == (1,)


def test_a_restore_that_nobody_acknowledged_is_503(database):
    from tests.api.conftest import person

    alice = person("alice")
    account = operations.create_account(actor=alice.user, name="Orders").account
    destination = add_destination(alice, account)
    people.restored(database)
    reply = ask_for_sample(alice, destination)
    assert refusal(reply) == (503, "restore-unacknowledged")
    assert reply["Retry-After"] == "1"
