"""What can be done with accounts through the API, by whom, and how is each refusal told?"""

import itertools
from datetime import datetime
from uuid import uuid4

import pytest

from accounts import operations, tokens
from accounts.models import Account
from tests.api.conftest import PASSWORD, Person

MISSING = "0199aaaa-0000-7000-8000-000000000000"


def test_whoever_registered_creates_an_account_and_sees_its_secret_once(alice):
    reply = alice.post("/accounts/", {"name": "Orders", "website": "https://example.com"})
    assert reply.status_code == 201
    assert reply.json()["success"] is True
    assert reply.json()["message"] == "Data Received"
    data = reply.json()["data"]
    assert tokens.parse(data["app_secret_token"]) is not None
    assert data["rate_limit_per_second"] == 5
    assert data["created_by"] == data["updated_by"] == str(alice.user.pk)
    shown = alice.get(f"/accounts/{data['id']}/").json()
    assert shown == {name: value for name, value in data.items() if name != "app_secret_token"}
    assert shown["token_hint"].startswith("clx_")
    assert shown["created_at"].endswith("Z")
    assert len(shown["created_at"]) == len("2026-11-20T12:00:00.000000Z")
    assert datetime.fromisoformat(shown["token_created_at"])


def test_a_normal_user_who_never_registered_creates_no_account(alice, account):
    invited = operations.add_member(
        actor=alice.user, account_id=account.pk, email="dora@people.example.com", role="Normal user"
    ).user
    invited.set_password(PASSWORD)
    invited.save(actor=invited)
    token = operations.log_in(email=invited.email, password=PASSWORD).access_token
    reply = Person(invited, token).post("/accounts/", {"name": "Mine"})
    assert reply.status_code == 403
    assert reply.json()["message"] == "Forbidden"


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "  "}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": 5}, "name"),
        ({"name": None}, "name"),
        ({"name": ["x"]}, "name"),
        ({"name": "a\u0000b"}, "name"),
        ({"name": "a\u0007b"}, "name"),
        ({"name": "x", "website": "javascript:alert(1)"}, "website"),
        ({"name": "x", "website": "example.com"}, "website"),
        ({"name": "x", "website": None}, "website"),
        ({"name": "x", "rate_limit_per_second": 0}, "rate_limit_per_second"),
        ({"name": "x", "rate_limit_per_second": 1001}, "rate_limit_per_second"),
        ({"name": "x", "rate_limit_per_second": 10**30}, "rate_limit_per_second"),
        ({"name": "x", "rate_limit_per_second": "5"}, "rate_limit_per_second"),
        ({"name": "x", "rate_limit_per_second": 5.0}, "rate_limit_per_second"),
        ({"name": "x", "rate_limit_per_second": True}, "rate_limit_per_second"),
        ({"name": "x", "unknown": 1}, "unknown"),
        ({"name": "x", "revision": 7}, "revision"),
    ],
)
def test_what_can_not_be_an_account_is_400_field_by_field(alice, content, field):
    reply = alice.post("/accounts/", content)
    assert reply.status_code == 400
    assert reply["Content-Type"] == "application/problem+json"
    problem = reply.json()
    assert problem["success"] is False
    assert problem["message"] == "Invalid Data"
    assert list(problem["errors"]) == [field]
    assert not Account.objects.exists()


@pytest.mark.parametrize("content", [[], "text", 5, True, [{"name": "x"}]])
def test_content_that_is_no_object_is_400(alice, content):
    reply = alice.post("/accounts/", content)
    assert reply.status_code == 400
    assert reply.json()["message"] == "Invalid Data"


def test_read_only_fields_sent_back_are_ignored(alice, account):
    shown = alice.get(f"/accounts/{account.pk}/").json()
    reply = alice.put(f"/accounts/{account.pk}/", {**shown, "id": str(uuid4()), "name": "Renamed"})
    assert reply.status_code == 200
    data = reply.json()["data"]
    assert data["name"] == "Renamed"
    assert data["id"] == shown["id"]
    assert {**data, "updated_at": None, "name": None} == {**shown, "updated_at": None, "name": None}


def test_put_needs_what_is_required_and_patch_does_not(alice, account):
    assert alice.put(f"/accounts/{account.pk}/", {"website": ""}).status_code == 400
    reply = alice.patch(f"/accounts/{account.pk}/", {"website": "https://example.com"})
    assert reply.status_code == 200
    assert reply.json()["data"]["name"] == "Orders"
    assert reply.json()["data"]["website"] == "https://example.com"
    assert alice.patch(f"/accounts/{account.pk}/", {}).status_code == 200


def test_a_normal_user_reads_and_updates_but_neither_limits_nor_deletes(bob, account):
    path = f"/accounts/{account.pk}/"
    assert bob.get(path).status_code == 200
    assert bob.patch(path, {"name": "By Bob"}).json()["data"]["updated_by"] == str(bob.user.pk)
    assert bob.patch(path, {"rate_limit_per_second": 5}).status_code == 200  # it is 5
    for refused in (
        bob.patch(path, {"rate_limit_per_second": 6}),
        bob.delete(path),
        bob.post(path + "token/rotate/", {}),
    ):
        assert refused.status_code == 403
        assert refused.json()["message"] == "Forbidden"


def test_a_deleted_account_is_gone(alice, account):
    reply = alice.delete(f"/accounts/{account.pk}/")
    assert reply.status_code == 200
    assert reply.json() == {"success": True, "message": "Data Received", "data": None}
    assert alice.get(f"/accounts/{account.pk}/").status_code == 404
    assert alice.get("/accounts/").json()["results"] == []


def test_the_token_is_rotated_and_shown_once(alice, account):
    before = alice.get(f"/accounts/{account.pk}/").json()
    reply = alice.post(f"/accounts/{account.pk}/token/rotate/", {"overlap_seconds": 60})
    assert reply.status_code == 201
    made = reply.json()["data"]
    assert tokens.parse(made["app_secret_token"]) is not None
    after = alice.get(f"/accounts/{account.pk}/").json()
    assert after["token_hint"] == made["token_hint"] != before["token_hint"]
    assert "app_secret_token" not in after
    assert made == {**after, "app_secret_token": made["app_secret_token"]}, "the account as it is now"
    assert alice.post(f"/accounts/{account.pk}/token/rotate/").status_code == 201
    assert alice.post(f"/accounts/{account.pk}/token/rotate/", {"overlap_seconds": -1}).status_code == 400


@pytest.mark.parametrize("method", ["get", "put", "patch", "delete"])
@pytest.mark.parametrize("which", ["foreign", "missing", "malformed"])
def test_what_is_not_yours_is_404(alice, foreign, method, which):
    key = {"foreign": foreign.pk, "missing": MISSING, "malformed": "12"}[which]
    arguments = [{"name": "x"}] if method in {"put", "patch"} else []
    reply = getattr(alice, method)(f"/accounts/{key}/", *arguments)
    assert reply.status_code == 404
    assert reply["Content-Type"] == "application/problem+json"
    assert reply.json()["message"] == "Not Found"
    foreign.refresh_from_db()
    assert foreign.name == "Charlie's"


def test_a_list_shows_only_your_accounts(alice, account, foreign):
    assert [row["id"] for row in alice.get("/accounts/").json()["results"]] == [str(account.pk)]


@pytest.mark.parametrize(
    ("parameters", "names"),
    [
        ({"name": "Alpha"}, ["Alpha"]),
        ({"name": "alpha"}, []),
        ({"website": "https://beta.example.com"}, ["Beta"]),
        ({"search": "ALP"}, ["Alpha"]),
        ({"search": "example.com"}, ["Beta", "Alpha"]),
        ({"search": "%"}, []),
        ({"created_at_before": "2000-01-01T00:00:00Z"}, []),
        ({"created_at_after": "2000-01-01T00:00:00Z", "ordering": "name"}, ["Alpha", "Beta"]),
        ({"ordering": "-name"}, ["Beta", "Alpha"]),
        ({"id": MISSING}, []),
        ({"created_by": MISSING}, []),
    ],
)
def test_accounts_are_found(alice, parameters, names):
    for name in ("Alpha", "Beta"):
        alice.post("/accounts/", {"name": name, "website": f"https://{name.lower()}.example.com"})
    reply = alice.get("/accounts/", **parameters)
    assert reply.status_code == 200
    assert [row["name"] for row in reply.json()["results"]] == names


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"colour": "red"}, "colour"),
        ({"limit": "5"}, "limit"),
        ({"id": "12"}, "id"),
        ({"created_at_after": "yesterday"}, "created_at_after"),
        ({"page_size": "0"}, "page_size"),
        ({"page_size": "101"}, "page_size"),
        ({"page_size": "ten"}, "page_size"),
        ({"page_size": "9" * 5000}, "page_size"),
        ({"ordering": "password"}, "ordering"),
        ({"ordering": "members__user"}, "ordering"),
        ({"cursor": "x"}, "cursor"),
        ({"cursor": "bnVsbA"}, "cursor"),
        ({"name": "a\u0000"}, "name"),
        ({"search": "x" * 201}, "search"),
        ({"name": ["a", "b"]}, "name"),
    ],
)
def test_a_parameter_that_is_wrong_or_unknown_is_400(alice, parameters, field):
    reply = alice.get("/accounts/", **parameters)
    assert reply.status_code == 400
    assert list(reply.json()["errors"]) == [field]


def test_where_no_parameter_is_known_each_is_refused(alice, account):
    reply = alice.get(f"/accounts/{account.pk}/", expand="all")
    assert reply.status_code == 400
    assert list(reply.json()["errors"]) == ["expand"]


def test_pages_go_forth_and_back_without_repeating_or_leaving_out(alice):
    for number in range(7):
        alice.post("/accounts/", {"name": f"Account {number % 2}"})  # names tie
    for ordering in ("name", "-name", "created_at", "-updated_at"):
        whole = [row["id"] for row in alice.get("/accounts/", ordering=ordering).json()["results"]]
        page = alice.get("/accounts/", ordering=ordering, page_size=3).json()
        assert page["previous"] is None
        forth = [[row["id"] for row in page["results"]]]
        while page["next"]:
            page = _follow(alice, page["next"])
            forth.append([row["id"] for row in page["results"]])
        assert [len(ids) for ids in forth] == [3, 3, 1]
        assert list(itertools.chain(*forth)) == whole
        back = [forth[-1]]
        while page["previous"]:
            page = _follow(alice, page["previous"])
            back.insert(0, [row["id"] for row in page["results"]])
        assert back == forth


def test_a_cursor_is_good_for_its_own_order_only(alice):
    for number in range(3):
        alice.post("/accounts/", {"name": f"Account {number}"})
    link = alice.get("/accounts/", ordering="name", page_size=1).json()["next"]
    assert link.startswith("http://testserver/api/v1/accounts/?")
    reply = alice._client().get(link.replace("ordering=name", "ordering=-name"))
    assert reply.status_code == 400
    assert list(reply.json()["errors"]) == ["cursor"]


def test_a_list_takes_as_many_queries_for_30_rows_as_for_one(alice, django_assert_num_queries):
    alice.post("/accounts/", {"name": "The first"})
    with django_assert_num_queries(2):  # the token's user; the page
        assert len(alice.get("/accounts/").json()["results"]) == 1
    for number in range(29):
        alice.post("/accounts/", {"name": f"Account {number}"})
    with django_assert_num_queries(2):
        assert len(alice.get("/accounts/").json()["results"]) == 30


def _follow(person, link):
    reply = person._client().get(link)
    assert reply.status_code == 200
    return reply.json()
