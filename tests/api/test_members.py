"""What can be done with an account's members through the API, by whom, and how is each refusal told?"""

import pytest

from accounts import operations, queries
from accounts.models import Member, User

MISSING = "0199aaaa-0000-7000-8000-000000000000"


def path(account, member=None) -> str:
    return f"/accounts/{account.pk}/members/" + (f"{member.pk}/" if member else "")


def member_of(account, person) -> Member:
    return Member.objects.get(account=account, user=person.user)


def add(alice, account, email, role="Normal user") -> Member:
    return operations.add_member(actor=alice.user, account_id=account.pk, email=email, role=role)


@pytest.mark.parametrize("named", [{"role": "Admin"}, {"role_id": 1}, {"role": "Admin", "role_id": 1}])
def test_an_admin_adds_a_known_user(alice, charlie, account, named):
    reply = alice.post(path(account), {"email": "CHARLIE@people.example.com", **named})
    assert reply.status_code == 201
    data = reply.json()["data"]
    member = member_of(account, charlie)
    assert data.pop("invitation_sent") is None
    assert (data["id"], data["email"]) == (str(member.pk), charlie.user.email)
    assert (data["role"], data["role_id"]) == ("Admin", 1)
    assert data["created_by"] == data["updated_by"] == str(alice.user.pk)
    assert alice.get(path(account, member)).json() == data


def test_an_unknown_user_is_made_and_invited(alice, account, mailoutbox, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        reply = alice.post(path(account), {"email": "dora@people.example.com", "role": "Normal user"})
    assert reply.status_code == 201
    assert reply.json()["data"]["role"] == "Normal user"
    assert [mail.to for mail in mailoutbox] == [["dora@people.example.com"]]
    assert not User.objects.get(email="dora@people.example.com").has_usable_password()


@pytest.mark.parametrize(
    ("content", "fields"),
    [
        ({}, ["email", "role"]),
        ({"role": "Admin"}, ["email"]),
        ({"email": "dora@people.example.com"}, ["role"]),
        ({"email": "nobody", "role": "Admin"}, ["email"]),
        ({"email": "", "role": "Admin"}, ["email"]),
        ({"email": None, "role": "Admin"}, ["email"]),
        ({"email": 5, "role": "Admin"}, ["email"]),
        ({"email": ["dora@people.example.com"], "role": "Admin"}, ["email"]),
        ({"email": "d\u0000@people.example.com", "role": "Admin"}, ["email"]),
        ({"email": "x" * 3000, "role": "Admin"}, ["email"]),
        ({"email": "dora@people.example.com", "role": "Owner"}, ["role"]),
        ({"email": "dora@people.example.com", "role": "admin"}, ["role"]),
        ({"email": "dora@people.example.com", "role": None}, ["role"]),
        ({"email": "dora@people.example.com", "role": 1}, ["role"]),
        ({"email": "dora@people.example.com", "role": {}}, ["role"]),
        ({"email": "dora@people.example.com", "role_id": 3}, ["role_id"]),
        ({"email": "dora@people.example.com", "role_id": "1"}, ["role_id"]),
        ({"email": "dora@people.example.com", "role_id": True}, ["role_id"]),
        ({"email": "dora@people.example.com", "role_id": None}, ["role_id"]),
        ({"email": "dora@people.example.com", "role_id": 10**30}, ["role_id"]),
        ({"email": "dora@people.example.com", "role": "Admin", "role_id": 2}, ["role_id"]),
        ({"email": "dora@people.example.com", "role": "Admin", "user": MISSING}, ["user"]),
    ],
)
def test_what_can_not_be_a_member_is_400_field_by_field(alice, account, content, fields):
    reply = alice.post(path(account), content)
    assert reply.status_code == 400
    assert reply.json()["message"] == "Invalid Data"
    assert list(reply.json()["errors"]) == fields
    assert account.members.count() == 2
    assert not User.objects.filter(email="dora@people.example.com").exists()


def test_nobody_is_a_member_twice(alice, bob, account):
    reply = alice.post(path(account), {"email": bob.user.email, "role": "Admin"})
    assert reply.status_code == 409
    assert reply.json()["type"].endswith(":already-member")
    assert member_of(account, bob).role_name == "Normal user"


@pytest.mark.parametrize(
    ("method", "content"), [("put", {"role": "Admin"}), ("put", {"role_id": 1}), ("patch", {"role_id": 1})]
)
def test_a_role_is_changed_and_counts_at_once(alice, bob, account, method, content):
    assert bob.delete(f"/accounts/{account.pk}/").status_code == 403
    reply = getattr(alice, method)(path(account, member_of(account, bob)), content)
    assert reply.status_code == 200
    assert (reply.json()["data"]["role"], reply.json()["data"]["role_id"]) == ("Admin", 1)
    assert bob.delete(f"/accounts/{account.pk}/").status_code == 200


def test_a_member_is_sent_back_as_it_was_read(alice, bob, account):
    where = path(account, member_of(account, bob))
    shown = alice.get(where).json()
    reply = alice.put(where, {**shown, "email": "somebody@people.example.com"})
    assert reply.status_code == 200
    assert reply.json()["data"] == shown
    confused = alice.put(where, {**shown, "role": "Admin"})
    assert list(confused.json()["errors"]) == ["role_id"]


def test_put_needs_a_role_and_patch_does_not(alice, bob, account):
    where = path(account, member_of(account, bob))
    assert list(alice.put(where, {}).json()["errors"]) == ["role"]
    reply = alice.patch(where, {})
    assert (reply.status_code, reply.json()["data"]["role"]) == (200, "Normal user")
    assert bob.patch(where, {}).status_code == 403


def test_a_removed_member_is_out_at_once_and_stays_a_user(alice, bob, account):
    where = path(account, member_of(account, bob))
    assert bob.get(path(account)).status_code == 200
    assert alice.delete(where).json() == {"success": True, "message": "Data Received", "data": None}
    assert bob.get(path(account)).status_code == 404
    assert alice.get(where).status_code == 404
    assert bob.get("/auth/me/").status_code == 200


def test_the_last_admin_stays_and_stays_admin(alice, account):
    where = path(account, member_of(account, alice))
    for reply in (alice.delete(where), alice.patch(where, {"role": "Normal user"})):
        assert reply.status_code == 409
        assert reply.json()["type"].endswith(":last-admin")
    assert queries.role_of(alice.user.pk, account.pk) == "Admin"


def test_nobody_changes_their_own_role(alice, charlie, account):
    add(alice, account, charlie.user.email, "Admin")
    reply = alice.patch(path(account, member_of(account, alice)), {"role": "Normal user"})
    assert reply.status_code == 403
    assert reply.json()["type"].endswith(":own-role")


def test_a_normal_user_reads_members_only(alice, bob, account):
    member = member_of(account, alice)
    assert bob.get(path(account)).status_code == 200
    assert bob.get(path(account, member)).status_code == 200
    for refused in (
        bob.post(path(account), {"email": "dora@people.example.com", "role": "Normal user"}),
        bob.put(path(account, member), {"role": "Normal user"}),
        bob.patch(path(account, member), {"role_id": 2}),
        bob.delete(path(account, member)),
    ):
        assert refused.status_code == 403
        assert refused.json()["message"] == "Forbidden"


def test_a_member_is_reached_through_their_own_account_only(alice, bob, charlie, account, foreign):
    member, other = member_of(account, bob), member_of(foreign, charlie)
    own = alice.post("/accounts/", {"name": "Another"}).json()["data"]["id"]
    for reply in (
        alice.get(f"/accounts/{own}/members/{member.pk}/"),
        alice.delete(f"/accounts/{own}/members/{member.pk}/"),
        alice.patch(path(account, other), {"role": "Normal user"}),
        alice.delete(path(account, other)),
        alice.get(path(foreign)),
        alice.post(path(foreign), {"email": alice.user.email, "role": "Admin"}),
        alice.get(f"{path(account)}{MISSING}/"),
        alice.get(f"{path(account)}12/"),
        charlie.get(path(account, member)),
    ):
        assert reply.status_code == 404
        assert reply.json()["message"] == "Not Found"
    assert queries.role_of(charlie.user.pk, foreign.pk) == "Admin"


@pytest.mark.parametrize(
    ("parameters", "names"),
    [
        ({"email": "bob@people.example.com"}, ["bob"]),
        ({"email": "BOB@people.example.com"}, ["bob"]),
        ({"email": "bob"}, []),
        ({"role": "Admin"}, ["alice"]),
        ({"role": "Normal user"}, ["eve", "bob"]),
        ({"search": "OB@PEOPLE"}, ["bob"]),
        ({"search": "_"}, []),
        ({"id": MISSING}, []),
        ({"created_at_before": "2000-01-01T00:00:00Z"}, []),
        ({"updated_at_after": "2000-01-01T00:00:00Z", "ordering": "created_at"}, ["alice", "bob", "eve"]),
        ({"role": "Normal user", "search": "eve"}, ["eve"]),
    ],
)
def test_members_are_found(alice, account, parameters, names):
    add(alice, account, "eve@people.example.com")
    reply = alice.get(path(account), **parameters)
    assert reply.status_code == 200
    assert [row["email"].partition("@")[0] for row in reply.json()["results"]] == names


def test_members_are_found_by_who_added_them(alice, bob, account):
    everybody = alice.get(path(account), created_by=str(alice.user.pk))
    assert len(everybody.json()["results"]) == 2
    assert alice.get(path(account), updated_by=str(bob.user.pk)).json()["results"] == []


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"role": "Owner"}, "role"),
        ({"ordering": "user__email"}, "ordering"),
        ({"ordering": "user__password"}, "ordering"),
        ({"user": MISSING}, "user"),
        ({"password": "x"}, "password"),
        ({"email": "a\u0000"}, "email"),
    ],
)
def test_a_parameter_that_is_wrong_or_unknown_is_400(alice, account, parameters, field):
    reply = alice.get(path(account), **parameters)
    assert reply.status_code == 400
    assert list(reply.json()["errors"]) == [field]


def test_pages_show_each_member_once(alice, account):
    for number in range(5):
        add(alice, account, f"guest-{number}@people.example.com")
    whole = [row["id"] for row in alice.get(path(account), ordering="created_at").json()["results"]]
    page = alice.get(path(account), ordering="created_at", page_size=3).json()
    shown = [row["id"] for row in page["results"]]
    while page["next"]:
        page = alice._client().get(page["next"]).json()
        shown += [row["id"] for row in page["results"]]
    assert shown == whole
    assert len(whole) == 7


def test_a_list_takes_as_many_queries_for_50_rows_as_for_one(alice, account, django_assert_num_queries):
    with django_assert_num_queries(3):  # the token's user; the role; the page
        assert len(alice.get(path(account), page_size=1).json()["results"]) == 1
    for number in range(48):
        add(alice, account, f"guest-{number}@people.example.com")
    with django_assert_num_queries(3):
        assert len(alice.get(path(account)).json()["results"]) == 50
