"""Is a POST that is sent twice with one Idempotency-Key done once, and answered alike?"""

import io
import threading
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.models import F
from django.urls import get_resolver
from rest_framework.test import APIClient

from accounts import operations
from accounts.models import Account, KeptAnswer, Member
from tests.accounts.recorded import events
from tests.api.conftest import PASSWORD, Person, person
from tests.api.test_errors import assert_problem
from tests.api.test_redeliver import end, sampled

KEY = "2f1e7a52-6f0f-4a57-9c2d-0c2f6a1f7f10"
REPLAYED = "Idempotency-Replayed"
NEW_DESTINATION = {
    "url": "https://hooks.example.com/",
    "http_method": "POST",
    "headers": {"X-Key": "canary-7"},
}

# Every POST below /accounts/, and a content that it takes.
POSTS: dict[str, Any] = {
    "accounts/": {"name": "New"},
    "accounts/<str:account_id>/token/rotate/": {"overlap_seconds": 60},
    "accounts/<str:account_id>/destinations/": NEW_DESTINATION,
    "accounts/<str:account_id>/destinations/<str:destination_id>/pause/": None,
    "accounts/<str:account_id>/destinations/<str:destination_id>/resume/": None,
    "accounts/<str:account_id>/destinations/<str:destination_id>/test/": None,
    "accounts/<str:account_id>/destinations/<str:destination_id>/signing-secret/rotate/": {},
    "accounts/<str:account_id>/members/": {"email": "dora@people.example.com", "role": "Normal user"},
    "accounts/<str:account_id>/logs/<str:log_id>/redeliver/": None,
}


@pytest.fixture
def ids(alice, account, destination) -> dict[str, Any]:
    failed = sampled(alice, destination)
    end(failed, account)
    return {"account_id": account.pk, "destination_id": destination.pk, "log_id": failed.delivery_id}


def filled(route: str, ids: dict[str, Any]) -> str:
    for name, value in ids.items():
        route = route.replace(f"<str:{name}>", str(value))
    return "/" + route


def everything() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM event")
        return cursor.fetchone()[0]


def test_the_table_has_every_post_below_accounts():
    routes = {
        str(pattern.pattern): pattern.callback.actions for pattern in get_resolver("api.urls").url_patterns
    }
    below = {route for route, actions in routes.items() if "post" in actions and route.startswith("accounts")}
    assert below == set(POSTS)


@pytest.mark.parametrize("route", POSTS)
def test_each_is_done_once_and_answered_alike(alice, ids, route):
    path = filled(route, ids)
    first = alice.ask("post", path, POSTS[route], Idempotency_Key=KEY)
    assert first.status_code in {200, 201}
    assert REPLAYED not in first
    done = everything()
    again = alice.ask("post", path, POSTS[route], Idempotency_Key=f'"{KEY}"')
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again[REPLAYED] == "true"
    assert (again.get("ETag"), again["Content-Type"]) == (first.get("ETag"), "application/json")
    assert again["Cache-Control"] == "no-store"
    assert everything() == done


def test_without_a_key_each_is_done(alice):
    for _ in range(2):
        assert alice.post("/accounts/", {"name": "New"}).status_code == 201
    assert Account.objects.count() == 2
    assert not KeptAnswer.objects.exists()


def test_another_key_and_another_user_are_other_requests(alice, bob):
    for person_, key in ((alice, "1"), (alice, "2"), (bob, "1"), (bob, '"2"')):
        reply = person_.ask("post", "/accounts/", {"name": "New"}, Idempotency_Key=key)
        assert (reply.status_code, REPLAYED in reply) == (201, False)
    assert Account.objects.count() == 4


@pytest.mark.parametrize("other", ["content", "path"])
def test_the_same_key_for_another_request_is_422_and_does_nothing(alice, account, other):
    alice.ask("post", f"/accounts/{account.pk}/destinations/", NEW_DESTINATION, Idempotency_Key=KEY)
    done = everything()
    if other == "content":
        content = {**NEW_DESTINATION, "http_method": "PUT"}
        reply = alice.ask("post", f"/accounts/{account.pk}/destinations/", content, Idempotency_Key=KEY)
    else:
        reply = alice.ask("post", f"/accounts/{account.pk}/token/rotate/", {}, Idempotency_Key=KEY)
    assert_problem(reply, 422, "idempotency-key-reused")
    assert everything() == done


@pytest.mark.parametrize("key", ["", '""', " ", "a b", "é", "x" * 256, "a\tb", "\x7f"])
def test_what_is_no_key_is_400(alice, key):
    reply = alice.ask("post", "/accounts/", {"name": "New"}, Idempotency_Key=key)
    assert list(assert_problem(reply, 400, "invalid-data")["errors"]) == ["Idempotency-Key"]
    assert not Account.objects.exists()


@pytest.mark.parametrize("key", ["!", "~" * 255, '"', '"a', "a,b", '"a"b"'])
def test_any_visible_ascii_is_a_key(alice, key):
    for replayed in (False, True):
        reply = alice.ask("post", "/accounts/", {"name": "New"}, Idempotency_Key=key)
        assert (reply.status_code, REPLAYED in reply) == (201, replayed)
    assert Account.objects.count() == 1


def test_an_error_leaves_nothing_and_the_key_is_free(alice, account, destination):
    path = f"/accounts/{account.pk}/destinations/"
    refused = alice.ask("post", path, {}, Idempotency_Key=KEY)
    assert_problem(refused, 400, "invalid-data")
    conflict = alice.ask(
        "post",
        f"/accounts/{account.pk}/members/",
        {"email": alice.user.email, "role": "Admin"},
        Idempotency_Key=KEY,
    )
    assert_problem(conflict, 409, "already-member")
    stale = alice.ask("post", f"{path}{destination.pk}/pause/", None, Idempotency_Key=KEY, If_Match='"7"')
    assert_problem(stale, 412, "stale")
    assert not KeptAnswer.objects.exists()
    assert alice.ask("post", path, NEW_DESTINATION, Idempotency_Key=KEY).status_code == 201


def test_what_falls_down_half_way_leaves_nothing(alice, account, monkeypatch):
    def fall(*_, **__):
        raise RuntimeError("half-way")

    client = APIClient(raise_request_exception=False)
    headers = {"Authorization": f"Bearer {alice.token}", "Idempotency-Key": KEY}

    def ask():
        return client.post(f"/api/v1/accounts/{account.pk}/token/rotate/", {}, headers=headers)

    hint = Account.objects.get(pk=account.pk).token_hint
    with monkeypatch.context() as patched:
        patched.setattr("accounts.operations.idempotency._seal", fall)  # after all that the request does
        assert_problem(ask(), 500, "internal-error")
    assert not KeptAnswer.objects.exists()
    assert Account.objects.get(pk=account.pk).token_hint == hint
    assert (ask().status_code, REPLAYED in ask()) == (201, True)


def test_a_mail_goes_out_once(alice, account, mailoutbox, django_capture_on_commit_callbacks):
    content = {"email": "dora@people.example.com", "role": "Admin"}
    for _ in range(2):
        with django_capture_on_commit_callbacks(execute=True):
            reply = alice.ask("post", f"/accounts/{account.pk}/members/", content, Idempotency_Key=KEY)
        assert (reply.status_code, reply.json()["data"]["invitation_sent"]) == (201, None)
    assert len(mailoutbox) == 1


@pytest.mark.parametrize("content_type", ["application/json", "multipart/form-data; boundary=x"])
def test_a_browser_s_session_may_use_a_key_too(alice, content_type):
    """CSRF's check looks for a token in a form, and must leave the body's bytes to us."""
    client = APIClient(enforce_csrf_checks=True)
    credentials = {"email": alice.user.email, "password": PASSWORD, "session": True}
    client.post("/api/v1/auth/login/", credentials, format="json")

    def ask():
        headers = {"X-CSRFToken": client.cookies["csrftoken"].value, "Idempotency-Key": KEY}
        return client.post(
            "/api/v1/accounts/", b'{"name": "New"}', content_type=content_type, headers=headers
        )

    first, again = ask(), ask()
    if content_type == "application/json":
        assert (first.status_code, again.status_code, REPLAYED in again) == (201, 201, True)
        assert first.content == again.content
    else:
        assert first.status_code == again.status_code == 415
    assert client.post("/api/v1/accounts/", headers={"Idempotency-Key": KEY}).status_code == 403


# --- who may hear it again ---------------------------------------------------------------------------------


def test_who_was_removed_or_demoted_does_not_hear_it_again(alice, bob, account):
    member = Member.objects.get(account=account, user=bob.user)

    def becomes(role):
        operations.update_member(actor=alice.user, account_id=account.pk, member_id=member.pk, role=role)

    def ask():
        return bob.ask("post", f"/accounts/{account.pk}/token/rotate/", {}, Idempotency_Key=KEY)

    becomes("Admin")
    first = ask()
    becomes("Normal user")
    assert_problem(ask(), 403, "forbidden")
    becomes("Admin")
    assert ask().content == first.content
    operations.remove_member(actor=alice.user, account_id=account.pk, member_id=member.pk)
    assert_problem(ask(), 404, "not-found")


def test_who_rose_hears_it_again(alice, bob, account, destination):
    path = f"/accounts/{account.pk}/destinations/{destination.pk}/pause/"
    assert bob.ask("post", path, None, Idempotency_Key=KEY).status_code == 200
    member = Member.objects.get(account=account, user=bob.user)
    operations.update_member(actor=alice.user, account_id=account.pk, member_id=member.pk, role="Admin")
    assert bob.ask("post", path, None, Idempotency_Key=KEY)[REPLAYED] == "true"


def test_nobody_hears_of_an_account_that_is_deleted(alice, account):
    path = f"/accounts/{account.pk}/token/rotate/"
    alice.ask("post", path, {}, Idempotency_Key=KEY)
    alice.delete(f"/accounts/{account.pk}/")
    assert alice.ask("post", path, {}, Idempotency_Key=KEY).status_code == 404


def test_a_stranger_s_key_opens_nothing(alice, charlie, account):
    path = f"/accounts/{account.pk}/token/rotate/"
    alice.ask("post", path, {}, Idempotency_Key=KEY)
    assert charlie.ask("post", path, {}, Idempotency_Key=KEY).status_code == 404
    assert APIClient().post("/api/v1" + path, headers={"Idempotency-Key": KEY}).status_code == 401


# --- how it is kept ----------------------------------------------------------------------------------------


def test_secrets_are_encrypted_where_they_are_kept(alice, account):
    reply = alice.ask("post", f"/accounts/{account.pk}/token/rotate/", {}, Idempotency_Key=KEY)
    alice.ask("post", f"/accounts/{account.pk}/destinations/", NEW_DESTINATION, Idempotency_Key="other")
    secret = reply.json()["data"]["app_secret_token"]
    with connection.cursor() as cursor:
        cursor.execute("SELECT string_agg(kept::text, ' ') FROM accounts_keptanswer kept")
        stored = cursor.fetchone()[0]
    assert str(alice.user.pk) in stored
    for canary in (secret, secret[:20], "canary-7", "app_secret_token"):
        assert canary not in stored
        assert canary.encode().hex() not in stored


@pytest.mark.parametrize("damage", ["the key is gone", "moved to another row"])
def test_what_can_not_be_read_any_more_is_told_and_not_done_again(alice, settings, damage):
    alice.ask("post", "/accounts/", {"name": "New"}, Idempotency_Key=KEY)
    if damage == "the key is gone":
        settings.ENCRYPTION_KEYS = {"k2": b"\2" * 32}
    else:
        alice.ask("post", "/accounts/", {"name": "New"}, Idempotency_Key="other")
        answer = KeptAnswer.objects.get(key="other").encrypted_answer
        KeptAnswer.objects.filter(key=KEY).update(encrypted_answer=answer)
    accounts = Account.objects.count()
    assert_problem(alice.ask("post", "/accounts/", {"name": "New"}, Idempotency_Key=KEY), 409, "answer-lost")
    assert Account.objects.count() == accounts


def test_answers_move_to_the_new_encryption_key_with_all_other_secrets(alice, settings):
    first = alice.ask("post", "/accounts/", {"name": "New"}, Idempotency_Key=KEY)
    settings.ENCRYPTION_KEYS = {"k2": b"\2" * 32, **settings.ENCRYPTION_KEYS}
    call_command("rotate_encryption", stdout=io.StringIO())
    settings.ENCRYPTION_KEYS = {"k2": b"\2" * 32}
    again = alice.ask("post", "/accounts/", {"name": "New"}, Idempotency_Key=KEY)
    assert (again.status_code, again.json()) == (201, first.json())


def test_after_a_day_the_key_is_free(alice):
    alice.ask("post", "/accounts/", {"name": "New"}, Idempotency_Key=KEY)
    KeptAnswer.objects.update(created_at=F("created_at") - timedelta(hours=24, seconds=1))
    reply = alice.ask("post", "/accounts/", {"name": "Another"}, Idempotency_Key=KEY)
    assert (reply.status_code, REPLAYED in reply) == (201, False)


def test_a_large_answer_is_kept_whole(alice, account):
    headers = {f"X-{number}": "é".encode().hex() * 100 for number in range(15)}
    content = {**NEW_DESTINATION, "headers": headers}
    replies = [
        alice.ask("post", f"/accounts/{account.pk}/destinations/", content, Idempotency_Key=KEY)
        for _ in range(2)
    ]
    assert replies[0].status_code == 201
    assert replies[0].json() == replies[1].json()


def test_other_methods_and_doors_pass_the_key_over(alice, account):
    for name in ("One", "Two"):
        reply = alice.ask("patch", f"/accounts/{account.pk}/", {"name": name}, Idempotency_Key=KEY)
        assert reply.json()["data"]["name"] == name
        assert alice.ask("get", "/accounts/", Idempotency_Key=KEY).status_code == 200
    content = {"email": alice.user.email, "password": PASSWORD}
    tokens = {
        alice.ask("post", "/auth/login/", content, Idempotency_Key=KEY).json()["data"]["token"]
        for _ in range(2)
    }
    assert len(tokens) == 2
    assert alice.ask("post", "/auth/logout/", None, Idempotency_Key=KEY).status_code == 200
    assert alice.ask("post", "/auth/logout/", None, Idempotency_Key=KEY).status_code == 401
    assert not KeptAnswer.objects.exists()


# --- at once ----------------------------------------------------------------------------------------------


class Slow:
    """Stands in the way of creating accounts, once: after the work, before the commit."""

    def __init__(self, monkeypatch, *, falls: bool) -> None:
        self.is_there, self.may_go_on = threading.Event(), threading.Event()
        self._make, self._falls = operations.create_account, falls
        monkeypatch.setattr(operations, "create_account", self)

    def __call__(self, **wanted):
        made = self._make(**wanted)
        if not self.is_there.is_set():
            self.is_there.set()
            assert self.may_go_on.wait(20)
            if self._falls:
                raise RuntimeError("half-way")
        return made


class Asking(threading.Thread):
    def __init__(self, alice: Person) -> None:
        super().__init__(daemon=True)
        self._client = APIClient(raise_request_exception=False)
        self._headers = {"Authorization": f"Bearer {alice.token}", "Idempotency-Key": KEY}
        self.reply: Any = None
        self.start()

    def run(self) -> None:
        try:
            self.reply = self._client.post(
                "/api/v1/accounts/", {"name": "New"}, headers=self._headers, format="json"
            )
        finally:
            connection.close()

    def done(self) -> Any:
        self.join(30)
        return self.reply


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("falls", [False, True], ids=["the first is done", "the first falls down"])
def test_of_two_at_once_one_is_done_and_the_other_hears_of_it(monkeypatch, falls):
    alice = person("alice")
    slow = Slow(monkeypatch, falls=falls)
    first = Asking(alice)
    assert slow.is_there.wait(20)
    second = Asking(alice)
    wait_for_a_waiter()
    assert second.reply is None
    slow.may_go_on.set()
    replies = [first.done(), second.done()]
    if falls:
        assert_problem(replies[0], 500, "internal-error")
        assert (replies[1].status_code, REPLAYED in replies[1]) == (201, False)
    else:
        assert [reply.status_code for reply in replies] == [201, 201]
        assert [REPLAYED in reply for reply in replies] == [False, True]
        assert replies[0].content == replies[1].content
    account = Account.objects.get()
    assert replies[1].json()["data"]["id"] == str(account.pk)
    assert [kind for kind, *_ in events(account.pk)] == ["account.created", "token.created", "member.added"]


def wait_for_a_waiter() -> None:
    with connection.cursor() as cursor:
        for _ in range(1000):
            cursor.execute("SELECT pg_sleep(0.01), pg_stat_clear_snapshot()")
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            if cursor.fetchone()[0]:
                return
    raise AssertionError("nobody waits for the lock")
