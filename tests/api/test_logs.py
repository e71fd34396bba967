"""What do the logs show of an account's deliveries, and how are they found?"""

import json
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from django.db import connection

from accounts.models import Account
from api import pagination
from delivery.models import DeliveryLog
from eventstore import append
from eventstore.events import NewEvent
from tests.api.conftest import add_destination

MISSING = "0199aaaa-0000-7000-8000-000000000000"
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def add_log(account: Account, *, body: bytes | None = b"{}", **fields) -> DeliveryLog:
    values = {
        "version": 1,
        "account_id": account.pk,
        "delivery_id": uuid4(),
        "event_id": uuid4(),
        "client_event_id": "order-1",
        "destination_id": uuid4(),
        "received_at": NOON,
        "status": "success",
        "attempts": 1,
        "reason": "delivered",
        "response_status": 204,
        "next_attempt_at": None,
        "position": 1,
    } | fields
    values.setdefault("processed_at", values["received_at"] + timedelta(seconds=1))
    if body is not None:
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO payload (account_id, event_id, body, salt) VALUES (%s, %s, %s, %s)",
                [account.pk, values["event_id"], body, b"salt"],
            )
    return DeliveryLog.objects.create(**values)


def path(account: Account, log_id: object = "") -> str:
    return f"/accounts/{account.pk}/logs/" + (f"{log_id}/" if log_id else "")


def test_a_log_shows_the_delivery_and_what_was_received(alice, account):
    log = add_log(account, body=b'{"b": 1e2, "a": "\xc3\xa9", "b": 18446744073709551617}')
    reply = alice.get(path(account))
    assert reply.status_code == 200
    # The very bytes: 1e2 stays 1e2, keys come twice and in their order.
    assert b'"received_data":{"b": 1e2, "a": "\xc3\xa9", "b": 18446744073709551617}' in reply.content
    page = reply.json()
    assert (page["next"], page["previous"]) == (None, None)
    (row,) = page["results"]
    del row["received_data"]
    assert row == {
        "id": str(log.delivery_id),
        "event_id": "order-1",
        "account_id": str(account.pk),
        "destination_id": str(log.destination_id),
        "received_timestamp": "2026-11-20T12:00:00.000000Z",
        "processed_timestamp": "2026-11-20T12:00:01.000000Z",
        "status": "success",
        "attempts": 1,
        "reason": "delivered",
        "response_status": 204,
        "next_attempt_timestamp": None,
    }


def test_a_pending_log_has_no_processed_timestamp_yet(alice, account):
    due = NOON + timedelta(seconds=5)
    add_log(
        account,
        status="pending",
        processed_at=None,
        attempts=0,
        reason="",
        response_status=None,
        next_attempt_at=due,
    )
    (row,) = alice.get(path(account)).json()["results"]
    assert row["processed_timestamp"] is None
    assert row["response_status"] is None
    assert row["next_attempt_timestamp"] == "2026-11-20T12:00:05.000000Z"


def test_large_data_is_left_out_of_lists_and_erased_data_is_null(alice, account):
    large = json.dumps({"a": "x" * (16 << 10)}).encode()
    exact = b'{"a":"' + b"x" * ((16 << 10) - 8) + b'"}'
    add_log(account, body=large, client_event_id="large")
    add_log(account, body=exact, client_event_id="exact")
    add_log(account, body=None, client_event_id="erased")
    rows = {row["event_id"]: row for row in alice.get(path(account)).json()["results"]}
    assert rows["exact"]["received_data"] == json.loads(exact)
    assert "received_data_url" not in rows["exact"]
    assert rows["erased"]["received_data"] is None
    assert "received_data" not in rows["large"]
    reply = alice._client().get(rows["large"]["received_data_url"])
    assert reply.json()["received_data"] == json.loads(large)


def test_a_detail_has_every_attempt(alice, account):
    log = add_log(account, attempts=2)
    outcome = {
        "reason": "server_error",
        "status": 503,
        "duration_us": 1500,
        "address": "192.0.2.1",
        "detail": "busy",
    }
    names = {"event": str(log.event_id), "destination": str(log.destination_id)}
    first = {"attempt": 1, **names, **outcome, "next_attempt_at": "2026-11-20T12:00:05.000004Z"}
    second = {"attempt": 2, **names, **outcome, "reason": "delivered", "status": 204, "detail": ""}
    stream = {"account_id": account.pk, "stream_id": log.delivery_id}
    append.append(
        [
            NewEvent(type="delivery.attempted", data=first, **stream),
            NewEvent(type="delivery.succeeded", data=second, **stream),
        ]
    )
    shown = alice.get(path(account, log.delivery_id)).json()
    attempts = shown["attempt_list"]
    assert shown["received_data"] == {}
    assert [attempt["number"] for attempt in attempts] == [1, 2]
    assert attempts[0]["next_attempt_timestamp"] == "2026-11-20T12:00:05.000004Z"
    assert attempts[0]["response_status"] == 503
    assert (attempts[1]["reason"], attempts[1]["response_status"]) == ("delivered", 204)
    assert attempts[1]["finished_timestamp"].endswith("Z")


def test_both_roles_read_and_nobody_writes(alice, bob, account):
    log = add_log(account)
    for person in (alice, bob):
        assert person.get(path(account)).status_code == 200
        assert person.get(path(account, log.delivery_id)).status_code == 200
        assert person.post(path(account), {}).status_code == 405
        assert person.delete(path(account, log.delivery_id)).status_code == 405


def test_what_is_not_yours_is_404(alice, charlie, account, foreign):
    log, theirs = add_log(account), add_log(foreign)
    own = alice.post("/accounts/", {"name": "Another"}).json()["data"]["id"]
    for reply in (
        charlie.get(path(account)),
        charlie.get(path(account, log.delivery_id)),
        alice.get(path(foreign)),
        alice.get(path(account, theirs.delivery_id)),
        alice.get(path(account, MISSING)),
        alice.get(path(account, "12")),
        alice.get(f"/accounts/{own}/logs/{log.delivery_id}/"),
        alice.get(f"/accounts/{MISSING}/logs/"),
        alice.get("/accounts/12/logs/"),
    ):
        assert reply.status_code == 404
        assert reply.json()["message"] == "Not Found"
    assert [row["id"] for row in alice.get(path(account)).json()["results"]] == [str(log.delivery_id)]


@pytest.fixture
def found(alice, account) -> dict[str, UUID]:
    destination = add_destination(alice, account, url="https://hooks.example.com/blue")
    add_log(account, client_event_id="order-1", received_at=NOON, destination_id=destination.pk)
    add_log(account, client_event_id="order-2", received_at=NOON + timedelta(hours=1), status="failed")
    add_log(
        account,
        client_event_id="refund-3",
        received_at=NOON + timedelta(hours=2),
        status="pending",
        processed_at=None,
    )
    return {"destination": destination.pk}


@pytest.mark.parametrize(
    ("parameters", "events"),
    [
        ({}, ["refund-3", "order-2", "order-1"]),
        ({"ordering": "received_timestamp"}, ["order-1", "order-2", "refund-3"]),
        ({"status": "failed"}, ["order-2"]),
        ({"status": "pending"}, ["refund-3"]),
        ({"event_id": "order-1"}, ["order-1"]),
        ({"event_id": "order"}, []),
        ({"destination_id": MISSING}, []),
        ({"id": MISSING}, []),
        ({"received_timestamp": "2026-11-20T13:00:00Z"}, ["order-2"]),
        ({"received_timestamp_after": "2026-11-20T13:00:00Z"}, ["refund-3", "order-2"]),
        ({"received_timestamp_before": "2026-11-20T13:00:00Z"}, ["order-2", "order-1"]),
        ({"received_timestamp_after": "2026-11-20T14:00:00+01:00"}, ["refund-3", "order-2"]),
        # An offset that PostgreSQL does not know.
        ({"received_timestamp_after": "2026-11-21T12:59:00+23:59"}, ["refund-3", "order-2"]),
        ({"received_timestamp_after": "2026-11-20T13:00:00Z", "status": "failed"}, ["order-2"]),
        ({"processed_timestamp_before": "2026-11-20T12:00:00Z"}, []),
        ({"processed_timestamp_after": "2026-11-20T12:00:01Z"}, ["order-2", "order-1"]),
        ({"processed_timestamp": "2026-11-20T12:00:01.000000Z"}, ["order-1"]),
        (
            {
                "processed_timestamp": "2026-11-20T12:00:01Z",
                "processed_timestamp_after": "2026-11-21T00:00:00Z",
            },
            [],
        ),
        ({"processed_timestamp_after": "2026-11-20T12:00:02Z", "status": "failed"}, ["order-2"]),
        ({"processed_timestamp_after": "2026-11-20T12:00:02Z", "search": "order-1"}, []),
        ({"event_id": "order-1", "search": "refund"}, []),
        ({"event_id": "order-1", "search": "blue"}, ["order-1"]),
        ({"search": "order"}, ["order-2", "order-1"]),
        ({"search": "BLUE"}, ["order-1"]),
        ({"search": "%"}, []),
        ({"search": "_rder"}, []),
    ],
)
def test_logs_are_found(alice, account, found, parameters, events):
    reply = alice.get(path(account), **parameters)
    assert reply.status_code == 200
    assert [row["event_id"] for row in reply.json()["results"]] == events


def test_logs_are_found_by_destination(alice, account, found):
    rows = alice.get(path(account), destination_id=found["destination"]).json()["results"]
    assert [row["event_id"] for row in rows] == ["order-1"]


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"status": "lost"}, "status"),
        ({"destination_id": "12"}, "destination_id"),
        ({"received_timestamp_after": "noon"}, "received_timestamp_after"),
        ({"received_timestamp": "0001-01-01T00:00:00+23:59"}, "received_timestamp"),  # before year 1 in UTC
        ({"received_timestamp_before": "9999-12-31T23:00:00-23:59"}, "received_timestamp_before"),
        ({"processed_timestamp": "2026-13-01"}, "processed_timestamp"),
        ({"event_id": "a\u0000"}, "event_id"),
        ({"ordering": "status"}, "ordering"),
        ({"reason": "x"}, "reason"),
        ({"cursor": "e30"}, "cursor"),
    ],
)
def test_a_filter_that_is_wrong_or_unknown_is_400(alice, account, parameters, field):
    reply = alice.get(path(account), **parameters)
    assert reply.status_code == 400
    assert list(reply.json()["errors"]) == [field]


@pytest.mark.parametrize(
    ("moment", "status"),
    [
        ("2026-11-20T12:00:00+00:00", 200),
        ("2026-11-21T11:59:00+23:59", 200),  # the same, by an offset that PostgreSQL does not know
        ("0001-01-01T00:00:00+23:59", 400),
        ("9999-12-31T23:00:00-23:59", 400),
        ("2026-11-20T12:00:00", 400),  # without an offset
        ("2026-11-20", 400),
        (5, 400),
        (None, 400),
        (["2026-11-20T12:00:00Z"], 400),
    ],
)
def test_a_cursor_that_somebody_made_up_is_400_or_a_place(alice, account, found, moment, status):
    cursor = pagination.Cursor("-received_timestamp", backward=False, value=moment, unique=MISSING)
    reply = alice.get(path(account), cursor=cursor.encode())
    assert reply.status_code == status
    if status == 400:
        assert list(reply.json()["errors"]) == ["cursor"]


def test_pages_hold_while_new_logs_come(alice, account):
    for number in range(5):
        add_log(account, client_event_id=f"e{number}", received_at=NOON + timedelta(seconds=number // 2))
    first = alice.get(path(account), page_size=2).json()
    add_log(account, client_event_id="new", received_at=NOON + timedelta(days=1))
    seen = [row["event_id"] for row in first["results"]]
    page = first
    while page["next"]:
        page = alice._client().get(page["next"]).json()
        seen += [row["event_id"] for row in page["results"]]
    assert sorted(seen) == ["e0", "e1", "e2", "e3", "e4"]
    assert alice._client().get(page["previous"]).json()["results"]


def test_a_list_takes_as_many_queries_for_30_rows_as_for_one(alice, account, django_assert_num_queries):
    add_log(account)
    with django_assert_num_queries(4):  # the token's user; the role; the page; what was received
        assert len(alice.get(path(account)).json()["results"]) == 1
    for _ in range(29):
        add_log(account)
    with django_assert_num_queries(4):
        assert len(alice.get(path(account)).json()["results"]) == 30
