"""Does nobody overwrite what they have not seen, and is nothing sent again that the client has?"""

from dataclasses import dataclass
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from rest_framework.test import APIClient

from accounts import operations
from accounts.models import Account, Member
from tests.api.conftest import add_destination
from tests.api.test_errors import assert_problem

MISSING = "0199aaaa-0000-7000-8000-000000000000"


@pytest.fixture
def things(account, destination, bob) -> dict[str, str]:
    """Everything that has a revision, by its path."""
    member = Member.objects.get(account=account, user=bob.user)
    return {
        "account": f"/accounts/{account.pk}/",
        "destination": f"/accounts/{account.pk}/destinations/{destination.pk}/",
        "member": f"/accounts/{account.pk}/members/{member.pk}/",
    }


@dataclass(frozen=True)
class Change:
    """A request that changes something, or everything, of a thing."""

    thing: str
    method: str
    rest: str = ""
    content: Any = None

    def __str__(self) -> str:
        return f"{self.method} {self.thing} {self.rest}".strip()

    def ask(self, person, things, **headers: str) -> Any:
        return person.ask(self.method, things[self.thing] + self.rest, self.content, **headers)


CHANGES = [
    Change("account", "put", "", {"name": "Changed"}),
    Change("account", "patch", "", {"name": "Changed"}),
    Change("account", "post", "token/rotate/", {}),
    Change(
        "destination", "put", "", {"url": "https://hooks.example.com/", "http_method": "PUT", "headers": {}}
    ),
    Change("destination", "patch", "", {"active": False}),
    Change("destination", "post", "pause/"),
    Change("destination", "post", "signing-secret/rotate/", {}),
    Change("member", "put", "", {"role": "Admin"}),
    Change("member", "patch", "", {"role_id": 1}),
]
DELETIONS = [Change(thing, "delete") for thing in ("account", "destination", "member")]


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_each_change_makes_another_tag_which_reading_confirms(alice, things, change):
    before = alice.get(things[change.thing])["ETag"]
    changed = change.ask(alice, things, If_Match=before)
    assert changed.status_code in {200, 201}
    assert changed["ETag"] not in {"", before}
    assert alice.get(things[change.thing])["ETag"] == changed["ETag"]


@pytest.mark.parametrize("change", CHANGES + DELETIONS, ids=str)
def test_what_was_changed_since_is_412_and_stays(alice, things, change):
    before = alice.get(things[change.thing])
    assert_problem(change.ask(alice, things, If_Match='"7"'), 412, "stale")
    after = alice.get(things[change.thing])
    assert (after.json(), after["ETag"]) == (before.json(), before["ETag"])


@pytest.mark.parametrize("change", CHANGES + DELETIONS, ids=str)
def test_any_tag_will_do_where_there_is_something(alice, things, change):
    assert change.ask(alice, things, If_Match=" * ").status_code in {200, 201}


@pytest.mark.parametrize(
    "condition",
    [
        "1",
        'W/"1"',
        '""',
        '"0"',
        '"01"',
        '"-1"',
        '"1',
        '"1", "2"',
        '"1" ',
        "",
        '"\u0661"',
        '"' + "9" * 5000 + '"',
    ],
)
def test_what_is_no_tag_of_ours_changes_nothing(alice, account, condition):
    reply = alice.ask("patch", f"/accounts/{account.pk}/", {"name": "x"}, If_Match=condition)
    if condition.strip() == '"1"':
        assert reply.status_code == 200
    else:
        assert_problem(reply, 412, "stale")


def test_of_two_who_saw_the_same_one_changes_it(alice, bob, account):
    path = f"/accounts/{account.pk}/"
    seen = alice.get(path)["ETag"]
    assert alice.ask("patch", path, {"name": "Alice's"}, If_Match=seen).status_code == 200
    assert bob.ask("patch", path, {"name": "Bob's"}, If_Match=seen).status_code == 412
    assert alice.get(path).json()["name"] == "Alice's"


@pytest.mark.parametrize(
    ("who", "status"), [("charlie", 404), ("bob", 403)], ids=["a stranger", "a Normal user"]
)
def test_a_role_is_asked_before_the_tag(request, account, who, status):
    person = request.getfixturevalue(who)
    path = f"/accounts/{account.pk}/"
    for condition in ('"1"', '"7"', "nonsense"):
        assert person.ask("delete", path, None, If_Match=condition).status_code == status
        assert person.ask("post", path + "token/rotate/", {}, If_Match=condition).status_code == status
    assert Account.objects.get(pk=account.pk).revision == 1


def test_what_there_is_not_is_404_whatever_the_tag(alice):
    assert alice.ask("patch", f"/accounts/{MISSING}/", {"name": "x"}, If_Match='"1"').status_code == 404


def test_a_change_that_changes_nothing_keeps_the_tag(alice, things, account):
    tag = alice.get(things["account"])["ETag"]
    assert alice.patch(things["account"], {"name": account.name})["ETag"] == tag
    assert (
        alice.patch(things["member"], {"role": "Normal user"})["ETag"] == alice.get(things["member"])["ETag"]
    )


def test_what_was_made_has_its_first_tag(alice, account):
    made = alice.post(
        f"/accounts/{account.pk}/destinations/",
        {"url": "https://hooks.example.com/", "http_method": "POST", "headers": {}},
    )
    added = alice.post(f"/accounts/{account.pk}/members/", {"email": "d@people.example.com", "role": "Admin"})
    for reply in (alice.post("/accounts/", {"name": "New"}), made, added):
        assert (reply.status_code, reply["ETag"]) == (201, '"1"')


# --- reading ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("thing", ["account", "destination", "member"])
def test_what_the_client_has_is_not_sent_again(alice, things, thing):
    first = alice.get(things[thing])
    for condition in (first["ETag"], f'"x", {first["ETag"]}', "W/" + first["ETag"], "*"):
        again = alice.ask("get", things[thing], If_None_Match=condition)
        assert (again.status_code, again.content) == (304, b"")
        assert again["ETag"] == first["ETag"]
        assert again["Cache-Control"] == "private, no-cache"
        assert "Authorization" in again["Vary"]
    assert alice.ask("get", things[thing], If_None_Match='"7"').json() == first.json()


@pytest.mark.parametrize("rest", ["", "destinations/", "members/", "logs/", "events/"])
def test_a_list_that_is_as_it_was_is_304_and_else_it_is_sent(alice, account, rest):
    path = "/accounts/" if rest == "" else f"/accounts/{account.pk}/{rest}"
    first = alice.get(path)
    assert first["ETag"].startswith('"')
    assert alice.ask("get", path, If_None_Match=first["ETag"]).status_code == 304
    alice.post("/accounts/", {"name": "Another"})
    add_destination(alice, account)
    operations.add_member(
        actor=alice.user, account_id=account.pk, email="new@people.example.com", role="Admin"
    )
    changed = alice.ask("get", path, If_None_Match=first["ETag"])
    if rest in {"logs/", "events/"}:  # nothing was received, and nothing is sealed in a test that rolls back
        assert changed.status_code == 304
    else:
        assert (changed.status_code, len(changed.json()["results"])) == (
            200,
            len(first.json()["results"]) + 1,
        )


def test_who_may_not_read_is_told_so_and_not_304(alice, bob, account, things):
    tag = bob.get(things["account"])["ETag"]
    alice.delete(things["member"])
    assert bob.ask("get", things["account"], If_None_Match=tag).status_code == 404
    assert bob.ask("get", things["account"], If_None_Match="*").status_code == 404
    anonymous = APIClient().get("/api/v1" + things["account"], headers={"If-None-Match": tag})
    assert anonymous.status_code == 401


def test_reading_on_a_condition_that_fails_is_a_problem(alice, things):
    tag = alice.get(things["account"])["ETag"]
    assert alice.ask("get", things["account"], If_Match=tag).status_code == 200
    assert_problem(alice.ask("get", things["account"], If_Match='"7"'), 412, "stale")


def test_errors_and_writes_are_kept_by_nobody(alice, account, foreign):
    for reply in (
        alice.get(f"/accounts/{foreign.pk}/"),
        alice.get("/accounts/", colour="red"),
        alice.patch(f"/accounts/{account.pk}/", {"name": "x"}),
        alice.post("/accounts/", {"name": "x"}),
        APIClient().get("/api/v1/nothing/"),
    ):
        assert reply["Cache-Control"] == "no-store"
        if reply.status_code >= 400:
            assert "ETag" not in reply


def test_a_browser_reads_by_its_cookie_and_caches_vary_by_it(alice, things):
    client = APIClient()
    client.force_login(get_user_model().objects.get(pk=alice.user.pk))
    reply = client.get("/api/v1" + things["account"])
    assert reply.status_code == 200
    assert {"Authorization", "Cookie"} <= {name.strip() for name in reply["Vary"].split(",")}
    again = client.get("/api/v1" + things["account"], headers={"If-None-Match": reply["ETag"]})
    assert again.status_code == 304


def test_the_document_itself_is_not_sent_again(db):
    first = APIClient().get("/api/schema/")
    again = APIClient().get("/api/schema/", headers={"If-None-Match": first["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
