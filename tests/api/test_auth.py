"""How do people register, log in and out, and what does each door do without valid credentials?"""

import re

import pytest
from django.core import mail
from django.urls import URLPattern, get_resolver
from rest_framework.test import APIClient

from accounts import operations, passwords, tokens
from accounts.models import AccessToken
from tests.accounts import recorded
from tests.api.conftest import PASSWORD

NEW = {"email": "Dora@People.example.com", "password": PASSWORD}


def anonymous(path: str, content, **options):
    return APIClient(**options).post("/api/v1/auth" + path, content, format="json")


@pytest.mark.django_db
def test_who_registers_can_log_in_and_see_who_they_are():
    reply = anonymous("/register/", NEW)
    assert reply.status_code == 201
    assert reply.json()["message"] == "Data Received"
    user = reply.json()["data"]
    assert user["email"] == "dora@people.example.com"
    assert user["created_by"] == user["id"]
    assert "password" not in user
    reply = anonymous("/login/", NEW)
    assert reply.status_code == 200
    token = reply.json()["data"]["token"]
    assert reply.json()["data"]["user"] == user
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"bearer {token}")
    assert client.get("/api/v1/auth/me/").json() == {**user, "may_create_accounts": True}


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("content", "fields"),
    [
        ({}, ["email", "password"]),
        ({**NEW, "email": "nobody"}, ["email"]),
        ({**NEW, "email": ""}, ["email"]),
        ({**NEW, "email": None}, ["email"]),
        ({**NEW, "email": "a@b\u0000.example"}, ["email"]),
        ({**NEW, "email": "x" * 5000}, ["email"]),
        ({**NEW, "password": "short"}, ["password"]),
        ({**NEW, "password": "password"}, ["password"]),
        ({**NEW, "password": 12345678901}, ["password"]),
        ({**NEW, "password": "x" * 5000}, ["password"]),
        ({**NEW, "registered": True}, ["registered"]),
        ({**NEW, "is_active": True}, ["is_active"]),
    ],
)
def test_what_can_not_be_a_user_is_400_field_by_field(content, fields):
    reply = anonymous("/register/", content)
    assert reply.status_code == 400
    assert sorted(reply.json()["errors"]) == fields


def test_a_known_address_is_400(alice):
    reply = anonymous("/register/", {"email": alice.user.email.upper(), "password": PASSWORD})
    assert reply.status_code == 400
    assert list(reply.json()["errors"]) == ["email"]


def test_an_invited_address_is_not_taken_over_by_registering(alice, account):
    operations.add_member(actor=alice.user, account_id=account.pk, email=NEW["email"], role="Admin")
    assert anonymous("/register/", NEW).status_code == 400
    assert anonymous("/login/", NEW).status_code == 401


def test_an_unknown_user_and_a_wrong_password_are_told_alike(alice):
    wrong = anonymous("/login/", {"email": alice.user.email, "password": "wrong password"})
    unknown = anonymous("/login/", {"email": "nobody@people.example.com", "password": PASSWORD})
    assert wrong.status_code == unknown.status_code == 401
    assert wrong.json() == unknown.json()
    assert wrong.json()["message"] == "Unauthenticated"
    assert wrong["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("path", ["/register/", "/login/"])
@pytest.mark.django_db
def test_too_many_at_once_are_503_and_told_when_to_come_again(monkeypatch, path):
    monkeypatch.setattr(passwords, "WAIT_SECONDS", 0.05)
    with passwords.turn(), passwords.turn():
        reply = anonymous(path, NEW)
    assert reply.status_code == 503
    assert reply.json()["message"] == "Unavailable"
    assert reply.json()["type"].endswith(":busy")
    assert int(reply["Retry-After"]) > 0
    assert anonymous("/register/", NEW).status_code == 201


def test_log_out_ends_this_token_at_once_and_no_other(alice):
    other = operations.log_in(email=alice.user.email, password=PASSWORD).access_token
    reply = alice.post("/auth/logout/")
    assert (reply.status_code, reply.json()["data"]) == (200, None)
    assert alice.get("/auth/me/").status_code == 401
    assert type(alice)(alice.user, other).get("/auth/me/").status_code == 200


def test_a_removed_member_and_an_inactive_user_are_out_at_once(alice, bob, account):
    member = account.members.get(user=bob.user)
    operations.remove_member(actor=alice.user, account_id=account.pk, member_id=member.pk)
    assert bob.get(f"/accounts/{account.pk}/").status_code == 404
    bob.user.is_active = False
    bob.user.save(actor=None)
    assert bob.get("/auth/me/").status_code == 401


def test_an_expired_token_is_401(alice):
    AccessToken.objects.update(expires_at="2000-01-01T00:00:00Z")
    assert alice.get("/auth/me/").status_code == 401


def test_a_browser_gets_a_session_and_needs_csrf_to_write(alice):
    client = APIClient(enforce_csrf_checks=True)
    reply = client.post(
        "/api/v1/auth/login/",
        {"email": alice.user.email, "password": PASSWORD, "session": True},
        format="json",
    )
    assert reply.status_code == 200
    assert reply.json()["data"]["token"] is None
    assert client.get("/api/v1/auth/me/").json()["email"] == alice.user.email
    refused = client.post("/api/v1/accounts/", {"name": "x"}, format="json")
    assert refused.status_code == 403
    assert refused.json()["message"] == "Forbidden"
    assert refused.json()["type"].endswith(":csrf-failed"), "it is no matter of roles"
    headers = {"X-CSRFToken": client.cookies["csrftoken"].value}
    taken = client.post("/api/v1/accounts/", {"name": "x"}, format="json", headers=headers)
    assert taken.status_code == 201
    headers = {"X-CSRFToken": client.cookies["csrftoken"].value}
    assert client.post("/api/v1/auth/logout/", headers=headers).status_code == 200
    assert client.get("/api/v1/auth/me/").status_code == 401


def test_a_session_makes_no_access_token_and_its_ends_are_recorded(alice):
    tokens_before, recorded_before = AccessToken.objects.count(), len(recorded.types())
    client = APIClient()
    content = {"email": alice.user.email, "password": PASSWORD, "session": True}
    assert client.post("/api/v1/auth/login/", content, format="json").status_code == 200
    assert AccessToken.objects.count() == tokens_before
    assert client.post("/api/v1/auth/logout/").status_code == 200
    assert recorded.types()[recorded_before:] == ["user.logged_in", "user.logged_out"]


def test_a_session_that_two_log_out_of_at_once_ends_once(alice):
    client = APIClient()
    content = {"email": alice.user.email, "password": PASSWORD, "session": True}
    client.post("/api/v1/auth/login/", content, format="json")
    for _ in range(2):  # both doors had found it
        operations.close_session(alice.user, session_key=client.cookies["sessionid"].value)
    assert client.get("/api/v1/auth/me/").status_code == 401
    assert recorded.types().count("user.logged_out") == 1


@pytest.mark.parametrize(
    "key",
    [
        '"abcdefgh\\000\\000"',  # octal, as cookies write what is no plain text: two NULs
        "a" * 5000,
        "caf\u00e9caf\u00e9",
        "' OR 1=1 --",
        "abcdefgh",
    ],
)
def test_a_session_that_nobody_began_is_nobodys(alice, key):
    client = APIClient(headers={"Cookie": f"sessionid={key}"})
    assert client.get("/api/v1/auth/me/").status_code == 401
    content = {"email": alice.user.email, "password": PASSWORD, "session": True}
    assert client.post("/api/v1/auth/login/", content, format="json").status_code == 200


def browser(email: str, password: str = PASSWORD) -> APIClient:
    """Logged in by a session, without CSRF's checks."""
    client = APIClient()
    content = {"email": email, "password": password, "session": True}
    assert client.post("/api/v1/auth/login/", content, format="json").status_code == 200
    return client


NEW_PASSWORD = "another horse, another staple"
CHANGE = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}


def test_with_another_password_every_token_and_every_session_ends_at_once(alice, bob):
    other = operations.log_in(email=alice.user.email, password=PASSWORD).access_token
    client, theirs = browser(alice.user.email), browser(bob.user.email)
    reply = alice.post("/auth/password/", CHANGE)
    assert (reply.status_code, reply.json()) == (
        200,
        {"success": True, "message": "Data Received", "data": None},
    )
    assert alice.get("/auth/me/").status_code == 401
    assert type(alice)(alice.user, other).get("/auth/me/").status_code == 401
    assert client.get("/api/v1/auth/me/").status_code == 401
    assert theirs.get("/api/v1/auth/me/").status_code == 200
    assert anonymous("/login/", {"email": alice.user.email, "password": PASSWORD}).status_code == 401
    assert anonymous("/login/", {"email": alice.user.email, "password": NEW_PASSWORD}).status_code == 200


def test_a_browser_changes_the_password_with_csrf_and_logs_in_again(alice):
    client = APIClient(enforce_csrf_checks=True)
    client.post(
        "/api/v1/auth/login/",
        {"email": alice.user.email, "password": PASSWORD, "session": True},
        format="json",
    )
    assert client.post("/api/v1/auth/password/", CHANGE, format="json").status_code == 403
    headers = {"X-CSRFToken": client.cookies["csrftoken"].value}
    reply = client.post("/api/v1/auth/password/", CHANGE, format="json", headers=headers)
    assert reply.status_code == 200
    assert client.get("/api/v1/auth/me/").status_code == 401
    assert browser(alice.user.email, NEW_PASSWORD).get("/api/v1/auth/me/").status_code == 200


@pytest.mark.parametrize(
    ("content", "fields"),
    [
        ({}, ["current_password", "new_password"]),
        ({**CHANGE, "current_password": "wrong password"}, ["current_password"]),
        ({**CHANGE, "current_password": None}, ["current_password"]),
        ({**CHANGE, "new_password": "short"}, ["new_password"]),
        ({**CHANGE, "new_password": 5}, ["new_password"]),
        ({**CHANGE, "email": "x@people.example.com"}, ["email"]),
    ],
)
def test_a_change_of_password_that_can_not_be_is_400_field_by_field(alice, content, fields):
    reply = alice.post("/auth/password/", content)
    assert reply.status_code == 400
    assert sorted(reply.json()["errors"]) == fields
    assert alice.get("/auth/me/").status_code == 200


def test_a_session_of_somebody_deactivated_is_over_for_good(alice):
    client = browser(alice.user.email)
    operations.deactivate_user(email=alice.user.email)
    assert client.get("/api/v1/auth/me/").status_code == 401
    operations.activate_user(email=alice.user.email)
    assert client.get("/api/v1/auth/me/").status_code == 401
    client = browser(alice.user.email)
    operations.deactivate_user(email=alice.user.email)
    operations.activate_user(email=alice.user.email)  # nobody asked in between
    assert client.get("/api/v1/auth/me/").status_code == 401
    assert alice.get("/auth/me/").status_code == 401


@pytest.fixture
def invitation(alice, account, django_capture_on_commit_callbacks) -> str:
    """The token in Dora's mail."""
    with django_capture_on_commit_callbacks(execute=True):
        operations.add_member(actor=alice.user, account_id=account.pk, email=NEW["email"], role="Normal user")
    return re.findall(r"cli_\w+", mail.outbox[-1].body)[0]


def test_who_is_invited_sets_a_password_once_and_logs_in(account, invitation):
    reply = anonymous("/invitations/accept/", {"token": invitation, "password": PASSWORD})
    assert reply.status_code == 200
    assert reply.json()["data"]["email"] == NEW["email"].lower()
    token = anonymous("/login/", NEW).json()["data"]["token"]
    client = APIClient(headers={"Authorization": f"Bearer {token}"})
    assert client.get(f"/api/v1/accounts/{account.pk}/").status_code == 200
    assert client.get("/api/v1/auth/me/").json()["may_create_accounts"] is False
    assert client.post("/api/v1/accounts/", {"name": "Mine"}, format="json").status_code == 403
    again = anonymous("/invitations/accept/", {"token": invitation, "password": PASSWORD})
    unknown = anonymous(
        "/invitations/accept/", {"token": tokens.make_invitation().text, "password": PASSWORD}
    )
    assert (again.status_code, list(again.json()["errors"])) == (400, ["token"])
    assert again.json() == unknown.json()


@pytest.mark.parametrize(
    ("changed", "fields"),
    [
        ({"password": "short"}, ["password"]),
        ({"password": None}, ["password"]),
        ({"token": ""}, ["token"]),
        ({"token": "x" * 5000}, ["token"]),
        ({"token": 5}, ["token"]),
        ({"email": "x@people.example.com"}, ["email"]),
    ],
)
def test_an_acceptance_that_can_not_be_is_400_field_by_field(invitation, changed, fields):
    content = {"token": invitation, "password": PASSWORD}
    reply = anonymous("/invitations/accept/", {**content, **changed})
    assert (reply.status_code, sorted(reply.json()["errors"])) == (400, fields)
    assert anonymous("/invitations/accept/", content).status_code == 200


@pytest.mark.parametrize("email", ["alice@people.example.com", "nobody@people.example.com"])
def test_repeated_failures_are_slowed_down_known_or_not_and_told_for_how_long(alice, email):
    for _ in range(5):
        assert anonymous("/login/", {"email": email, "password": "wrong password"}).status_code == 401
    for session in (False, True):
        reply = anonymous("/login/", {"email": email, "password": PASSWORD, "session": session})
        assert reply.status_code == 429
        assert reply["Retry-After"] == "1"
        assert reply["Content-Type"] == "application/problem+json"
        assert reply.json()["message"] == "Too Many Requests"
        assert "1 s" in reply.json()["detail"]


@pytest.mark.django_db
def test_who_fails_from_one_place_is_slowed_down_there_and_nobody_elsewhere():
    neighbours = ("2001:db8::1", "2001:db8::2:3")
    for number in range(20):
        content = {"email": f"{number}@people.example.com", "password": PASSWORD}
        reply = anonymous("/login/", content, REMOTE_ADDR=neighbours[number % 2])
        assert reply.status_code == 401
    content = {"email": "new@people.example.com", "password": PASSWORD}
    guess = {"token": "cli_guess", "password": PASSWORD}
    for address, door, status in (
        ("2001:db8::4", "/login/", 429),
        ("2001:db8::4", "/invitations/accept/", 429),
        ("2001:db8:0:1::1", "/login/", 401),
        ("2001:db8:0:1::1", "/invitations/accept/", 400),
        ("", "/login/", 401),  # the server could not say
    ):
        body = guess if "accept" in door else content
        assert anonymous(door, body, REMOTE_ADDR=address).status_code == status, address


PUBLIC = {"register", "login", "invitations"}


def _paths() -> list[str]:
    found: set[str] = set()
    for pattern in get_resolver("api.urls").url_patterns:
        assert isinstance(pattern, URLPattern)
        path = str(pattern.pattern)
        for name in ("account_id", "destination_id", "log_id"):
            path = path.replace(f"<str:{name}>", "0199aaaa-0000-7000-8000-000000000000")
        found.add(path)
    return sorted(found)


@pytest.mark.slow
@pytest.mark.django_db
@pytest.mark.parametrize("path", [path for path in _paths() if path.split("/")[1] not in PUBLIC])
@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer x",
        "Basic YWxpY2U6eA==",
        "Bearer \x00",
        f"Bearer {tokens.make_access().text}",
        f"Bearer {tokens.make().text}",  # the kind that sends events
        f"Bearer {tokens.make_access().text}, Bearer {tokens.make_access().text}",
    ],
)
def test_without_valid_credentials_everything_is_401(path, header):
    client = APIClient()
    if header is not None:
        client.credentials(HTTP_AUTHORIZATION=header)
    for method in ("get", "post", "put", "patch", "delete"):
        reply = getattr(client, method)("/api/v1/" + path)
        assert reply.status_code == 401, method
        assert reply["Content-Type"] == "application/problem+json"
        assert reply["WWW-Authenticate"].startswith("Bearer")
        assert reply.json()["message"] == "Unauthenticated"
