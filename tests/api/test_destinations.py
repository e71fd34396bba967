"""What can be done with destinations through the API, by whom, and what is shown of their secrets?"""

import pytest

from accounts.masks import MASK
from accounts.models import Destination
from tests.api.conftest import add_destination

MISSING = "0199aaaa-0000-7000-8000-000000000000"
NEW = {"url": "https://hooks.example.com/in", "http_method": "POST", "headers": {"X-Team": "blue"}}


def path(account, destination=None, *rest: str) -> str:
    parts = [
        "/accounts",
        str(account.pk),
        "destinations",
        *([str(destination.pk)] if destination else []),
        *rest,
    ]
    return "/".join(parts) + "/"


def test_a_destination_is_created_and_its_secret_shown_once(alice, account):
    reply = alice.post(path(account), NEW)
    assert reply.status_code == 201
    data = reply.json()["data"]
    assert data["signing_secret"].startswith("whsec_")
    assert data["headers"] == {"X-Team": "blue"}
    assert (data["active"], data["paused"], data["timeout_seconds"]) == (True, False, 15)
    assert len(data["retry_schedule_seconds"]) == 11
    shown = alice.get(f"{path(account)}{data['id']}/").json()
    assert shown == {name: value for name, value in data.items() if name != "signing_secret"}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"url": None}, "url"),
        ({"url": "ftp://hooks.example.com"}, "url"),
        ({"url": "http://127.0.0.1/"}, "url"),
        ({"url": "http://169.254.169.254/latest/meta-data"}, "url"),
        ({"url": "https://user:word@hooks.example.com/"}, "url"),
        ({"http_method": "TRACE"}, "http_method"),
        ({"http_method": "post"}, "http_method"),
        ({"http_method": 5}, "http_method"),
        ({"http_method": ["POST"]}, "http_method"),
        ({"headers": None}, "headers"),
        ({"headers": []}, "headers"),
        ({"headers": "X-Team: blue"}, "headers"),
        ({"headers": {"X-Team": 5}}, "headers.X-Team"),
        ({"headers": {"X-Team": {"deep": "er"}}}, "headers.X-Team"),
        ({"headers": {"Host": "evil.example.com"}}, "headers"),
        ({"headers": {"X": "a\r\nY: b"}}, "headers"),
        ({"headers": {f"X-{number}": "y" for number in range(21)}}, "headers"),
        ({"headers": {"Authorization": MASK}}, "headers"),
        ({"active": "true"}, "active"),
        ({"active": 1}, "active"),
        ({"active": None}, "active"),
        ({"timeout_seconds": 0}, "timeout_seconds"),
        ({"timeout_seconds": 31}, "timeout_seconds"),
        ({"timeout_seconds": 10**9}, "timeout_seconds"),
        ({"retry_schedule_seconds": [0]}, "retry_schedule_seconds"),
        ({"retry_schedule_seconds": ["5"]}, "retry_schedule_seconds.0"),
        ({"retry_schedule_seconds": [1] * 21}, "retry_schedule_seconds"),
        ({"retry_schedule_seconds": 5}, "retry_schedule_seconds"),
        ({"account_id": MISSING}, "account_id"),
    ],
)
def test_what_can_not_be_a_destination_is_400_field_by_field(alice, account, changes, field):
    reply = alice.post(path(account), {**NEW, **changes})
    assert reply.status_code == 400
    assert reply.json()["message"] == "Invalid Data"
    assert list(reply.json()["errors"]) == [field]
    assert not Destination.objects.exists()


@pytest.mark.parametrize("field", ["url", "http_method", "headers"])
def test_what_is_required_is_required(alice, account, field):
    reply = alice.post(path(account), {name: value for name, value in NEW.items() if name != field})
    assert reply.status_code == 400
    assert list(reply.json()["errors"]) == [field]


def test_headers_may_be_empty(alice, account):
    assert alice.post(path(account), {**NEW, "headers": {}}).json()["data"]["headers"] == {}


def test_secret_header_values_come_back_masked_and_the_mask_changes_nothing(alice, account):
    destination = add_destination(
        alice, account, headers={"Authorization": "Bearer s3cret", "X-Team": "blue"}
    )
    shown = alice.get(path(account, destination)).json()
    assert shown["headers"] == {"Authorization": MASK, "X-Team": "blue"}
    reply = alice.put(path(account, destination), shown)
    assert reply.status_code == 200
    destination.refresh_from_db()
    assert destination.headers == {"Authorization": "Bearer s3cret", "X-Team": "blue"}
    alice.patch(path(account, destination), {"headers": {"X-Team": "red"}})
    destination.refresh_from_db()
    assert destination.headers == {"X-Team": "red"}


@pytest.mark.parametrize("method", ["put", "patch"])
@pytest.mark.parametrize("who", ["alice", "bob"])
def test_secret_headers_do_not_follow_to_another_address(request, alice, account, who, method):
    person = request.getfixturevalue(who)
    destination = add_destination(alice, account, headers={"Authorization": "Bearer s3cret"})
    change = getattr(person, method)
    moved = {"url": "https://evil.example.com/in"}
    shown = person.get(path(account, destination)).json()
    reply = change(path(account, destination), {**(shown if method == "put" else {}), **moved})
    assert reply.status_code == 400
    assert list(reply.json()["errors"]) == ["headers"]
    assert reply.json()["errors"]["headers"][0].startswith("Authorization: send its value again")
    destination.refresh_from_db()
    assert destination.url == shown["url"]
    again = {**moved, "headers": {"Authorization": "Bearer other"}}
    assert change(path(account, destination), {**shown, **again}).status_code == 200
    destination.refresh_from_db()
    assert (destination.url, destination.headers) == (again["url"], again["headers"])


@pytest.mark.parametrize("method", ["put", "patch"])
def test_one_that_can_not_be_decrypted_is_read_and_repaired(alice, account, settings, method):
    destination = add_destination(alice, account, headers={"Authorization": "Bearer s3cret"})
    settings.ENCRYPTION_KEYS = {"k2": b"\2" * 32}
    shown = alice.get(path(account, destination)).json()
    assert shown["headers"] == {}
    assert alice.get(path(account)).json()["results"] == [shown]
    for action in ("pause", "resume"):
        assert alice.post(path(account, destination, action)).status_code == 200
    rotated = alice.post(path(account, destination, "signing-secret", "rotate"), {})
    assert rotated.status_code == 201
    content = {**(shown if method == "put" else {}), "headers": {"Authorization": "Bearer new"}}
    repaired = getattr(alice, method)(path(account, destination), content)
    assert repaired.json()["data"]["headers"] == {"Authorization": MASK}
    destination.refresh_from_db()
    assert destination.headers == content["headers"]


def test_one_that_can_not_be_decrypted_can_be_deleted(alice, account, destination, settings):
    settings.ENCRYPTION_KEYS = {"k2": b"\2" * 32}
    assert alice.delete(path(account, destination)).status_code == 200


def test_a_normal_user_reads_updates_pauses_and_resumes_only(bob, account, destination):
    assert bob.get(path(account)).status_code == 200
    assert bob.get(path(account, destination)).status_code == 200
    assert bob.patch(path(account, destination), {"active": False}).json()["data"]["active"] is False
    assert bob.post(path(account, destination, "pause")).json()["data"]["paused"] is True
    assert bob.post(path(account, destination, "resume")).json()["data"]["paused"] is False
    for refused in (
        bob.post(path(account), NEW),
        bob.delete(path(account, destination)),
        bob.post(path(account, destination, "signing-secret", "rotate"), {}),
    ):
        assert refused.status_code == 403
        assert refused.json()["message"] == "Forbidden"


def test_the_signing_secret_is_rotated(alice, account, destination):
    reply = alice.post(path(account, destination, "signing-secret", "rotate"), {"overlap_seconds": 0})
    assert reply.status_code == 201
    made = reply.json()["data"]
    assert made["signing_secret"].startswith("whsec_")
    assert made == {**alice.get(path(account, destination)).json(), "signing_secret": made["signing_secret"]}
    too_long = alice.post(path(account, destination, "signing-secret", "rotate"), {"overlap_seconds": 604801})
    assert too_long.status_code == 400


def test_a_deleted_destination_is_gone(alice, account, destination):
    reply = alice.delete(path(account, destination))
    assert (reply.status_code, reply.json()["data"]) == (200, None)
    assert alice.get(path(account, destination)).status_code == 404


def test_more_than_an_account_may_have_is_409(alice, account, destination, settings):
    settings.DESTINATIONS_PER_ACCOUNT = 1
    reply = alice.post(path(account), NEW)
    assert reply.status_code == 409
    assert reply.json()["message"] == "Conflict"
    assert reply.json()["type"].endswith("too-many-destinations")


def test_an_action_takes_no_content(alice, account, destination):
    reply = alice.post(path(account, destination, "pause"), {"reason": "x"})
    assert reply.status_code == 400
    assert list(reply.json()["errors"]) == ["reason"]


def test_a_destination_is_reached_through_its_own_account_only(alice, charlie, account, foreign, destination):
    own = alice.post("/accounts/", {"name": "Another"}).json()["data"]["id"]
    for reply in (
        alice.get(f"/accounts/{own}/destinations/{destination.pk}/"),
        alice.patch(f"/accounts/{own}/destinations/{destination.pk}/", {"active": False}),
        alice.delete(f"/accounts/{own}/destinations/{destination.pk}/"),
        alice.get(f"/accounts/{account.pk}/destinations/{MISSING}/"),
        alice.get(f"/accounts/{account.pk}/destinations/12/"),
        alice.get(f"/accounts/{foreign.pk}/destinations/"),
        alice.post(f"/accounts/{foreign.pk}/destinations/", NEW),
        alice.get(f"/accounts/12/destinations/{destination.pk}/"),
        charlie.get(path(account)),
        charlie.get(path(account, destination)),
        charlie.post(path(account, destination, "pause")),
        charlie.delete(path(account, destination)),
    ):
        assert reply.status_code == 404
        assert reply.json()["message"] == "Not Found"
    destination.refresh_from_db()
    assert destination.active


@pytest.mark.parametrize(
    ("parameters", "urls"),
    [
        ({"http_method": "GET"}, ["https://two.example.com/"]),
        ({"active": "false"}, ["https://two.example.com/"]),
        ({"active": "true"}, ["https://one.example.com/"]),
        ({"paused": "true"}, []),
        ({"url": "https://one.example.com/"}, ["https://one.example.com/"]),
        ({"search": "TWO"}, ["https://two.example.com/"]),
        ({"ordering": "url"}, ["https://one.example.com/", "https://two.example.com/"]),
        ({"updated_at_before": "2000-01-01T00:00:00Z"}, []),
    ],
)
def test_destinations_are_found(alice, account, parameters, urls):
    add_destination(alice, account, url="https://one.example.com/")
    add_destination(alice, account, url="https://two.example.com/", http_method="GET", active=False)
    reply = alice.get(path(account), **parameters)
    assert reply.status_code == 200
    assert [row["url"] for row in reply.json()["results"]] == urls


@pytest.mark.parametrize(
    ("parameters", "field"),
    [({"active": "yes"}, "active"), ({"http_method": "TRACE"}, "http_method"), ({"headers": "x"}, "headers")],
)
def test_a_filter_that_is_wrong_or_unknown_is_400(alice, account, parameters, field):
    reply = alice.get(path(account), **parameters)
    assert reply.status_code == 400
    assert list(reply.json()["errors"]) == [field]


def test_a_list_takes_as_many_queries_for_30_rows_as_for_one(alice, account, django_assert_num_queries):
    add_destination(alice, account)
    with django_assert_num_queries(3):  # the token's user; the role; the page
        assert len(alice.get(path(account)).json()["results"]) == 1
    for _ in range(29):
        add_destination(alice, account)
    with django_assert_num_queries(3):
        assert len(alice.get(path(account)).json()["results"]) == 30
