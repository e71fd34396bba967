"""Registering, logging in and out, other passwords: who gets in, and what a stranger can find out."""

import io
from datetime import timedelta

import pytest
from django.contrib.auth import authenticate, hashers
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from accounts import operations, queries, tokens
from accounts.models import AccessToken, Invitation, User
from config import settings as project
from tests.accounts.conftest import PASSWORD, register
from tests.accounts.recorded import NOBODY, events, types

pytestmark = pytest.mark.django_db


def test_who_registers_is_their_own_maker(alice):
    stored = User.objects.get(pk=alice.pk)
    assert (stored.created_by, stored.updated_by) == (stored, stored)
    assert stored.registered
    assert stored.is_active
    assert stored.created_at == stored.updated_at
    assert queries.may_create_accounts(stored)


def test_the_address_is_stored_in_lower_case_and_known_in_any():
    operations.register_user(email="Alice@People.Example.com", password=PASSWORD)
    assert User.objects.get().email == "alice@people.example.com"
    with pytest.raises(operations.EmailTaken):
        operations.register_user(email="aLICE@people.example.com", password=PASSWORD)
    assert (
        operations.log_in(email="ALICE@people.example.com", password=PASSWORD).user.email
        == User.objects.get().email
    )


def test_of_a_known_address_no_statement_has_the_hash(alice):
    """The server may log a statement that fails."""
    with CaptureQueriesContext(connection) as asked, pytest.raises(operations.EmailTaken):
        operations.register_user(email=alice.email, password=PASSWORD)
    assert [query["sql"] for query in asked if "md5$" in query["sql"]] == []
    assert not any(query["sql"].startswith("INSERT") for query in asked)


def test_an_address_that_another_session_takes_meanwhile_is_taken(alice, monkeypatch):
    monkeypatch.setattr(QuerySet, "exists", iter([False, True]).__next__)
    with pytest.raises(operations.EmailTaken):
        operations.register_user(email=alice.email, password=PASSWORD)
    assert User.objects.count() == 1


def test_an_invited_address_cannot_be_registered_over(alice, account):
    operations.add_member(
        actor=alice, account_id=account.pk, email="new@people.example.com", role="Normal user"
    )
    with pytest.raises(operations.EmailTaken):
        operations.register_user(email="new@people.example.com", password=PASSWORD)
    with pytest.raises(operations.WrongCredentials):
        operations.log_in(email="new@people.example.com", password="")


@pytest.mark.parametrize(
    "password",
    [
        "",
        "short",
        "password123",  # among the common ones
        "alice@people.example.com",  # the address itself
        "with\0nul and more",
        "with \ud800 half a character",
        "long" * 300,
    ],
)
def test_a_bad_password_is_refused_by_its_field(password):
    with pytest.raises(operations.Invalid) as refusal:
        operations.register_user(email="alice@people.example.com", password=password)
    assert list(refusal.value.errors) == ["password"]
    assert not User.objects.exists()


def test_all_wrong_fields_are_told_at_once():
    with pytest.raises(operations.Invalid) as refusal:
        operations.register_user(email="nobody", password="short")
    assert set(refusal.value.errors) == {"email", "password"}


def test_the_password_is_stored_hashed_by_argon2(settings):
    settings.PASSWORD_HASHERS = project.PASSWORD_HASHERS
    assert register("argon").password.startswith("argon2")


def test_logging_in_gives_a_token_of_which_only_the_digest_is_known(alice):
    text, user = operations.log_in(email=alice.email, password=PASSWORD)
    assert user == alice
    assert queries.user_of_bearer(text) == alice
    with connection.cursor() as cursor:
        cursor.execute("SELECT string_agg(t::text, ' ') FROM accounts_accesstoken t")
        assert text[17:] not in cursor.fetchone()[0]


@pytest.mark.parametrize(
    ("email", "password"),
    [
        ("alice@people.example.com", "wrong"),
        ("alice@people.example.com", ""),
        ("alice@people.example.com", PASSWORD + "\0"),
        ("alice@people.example.com", "\ud800"),
        ("nobody@people.example.com", PASSWORD),
        ("not an address", PASSWORD),
        ("a\0@people.example.com", PASSWORD),
        ("\ud800", PASSWORD),
        ("", ""),
    ],
)
def test_wrong_credentials_are_all_alike(alice, email, password):
    with pytest.raises(operations.WrongCredentials) as refusal:
        operations.log_in(email=email, password=password)
    assert str(refusal.value) == ""
    assert not AccessToken.objects.exists()


@pytest.mark.parametrize("email", ["alice@people.example.com", "nobody@people.example.com", "not an address"])
def test_a_wrong_log_in_hashes_once_whoever_it_is(alice, monkeypatch, email):
    """So that the time tells nothing."""
    hashed = []
    hasher = hashers.MD5PasswordHasher
    encode = hasher.encode
    monkeypatch.setattr(hasher, "encode", lambda *given: hashed.append(given) or encode(*given))
    with pytest.raises(operations.WrongCredentials):
        operations.log_in(email=email, password="wrong password")
    assert len(hashed) == 1


NEW_PASSWORD = "another horse, another staple"


def test_with_another_password_all_tokens_end_and_the_old_one_is_no_more(alice, bob):
    old = [operations.log_in(email=alice.email, password=PASSWORD).access_token for _ in range(2)]
    others = operations.log_in(email=bob.email, password=PASSWORD).access_token
    operations.change_password(actor=alice, current_password=PASSWORD, new_password=NEW_PASSWORD)
    assert [queries.user_of_bearer(token) for token in old] == [None, None]
    assert queries.user_of_bearer(others) == bob
    with pytest.raises(operations.WrongCredentials):
        operations.log_in(email=alice.email, password=PASSWORD)
    assert operations.log_in(email=alice.email, password=NEW_PASSWORD).user == alice
    assert types(NOBODY)[-2:] == ["user.password_changed", "user.logged_in"]


@pytest.mark.parametrize(
    ("current", "new", "field"),
    [
        ("wrong password", NEW_PASSWORD, "current_password"),
        ("", NEW_PASSWORD, "current_password"),
        ("\ud800", NEW_PASSWORD, "current_password"),
        (PASSWORD, "short", "new_password"),
        (PASSWORD, "alice@people.example.com", "new_password"),
        (PASSWORD, "with\0nul and more", "new_password"),
    ],
)
def test_a_change_of_password_that_is_refused_changes_nothing(alice, current, new, field):
    token = operations.log_in(email=alice.email, password=PASSWORD).access_token
    with pytest.raises(operations.Invalid) as refusal:
        operations.change_password(actor=alice, current_password=current, new_password=new)
    assert list(refusal.value.errors) == [field]
    assert queries.user_of_bearer(token) == alice
    assert types(NOBODY)[-1] == "user.logged_in"


def test_who_was_deactivated_is_out_at_once_and_gets_in_no_more(alice, bob):
    text, _ = operations.log_in(email=alice.email, password=PASSWORD)
    others = operations.log_in(email=bob.email, password=PASSWORD).access_token
    assert operations.deactivate_user(email="ALICE@people.example.com")
    assert not operations.deactivate_user(email=alice.email)
    assert queries.user_of_bearer(text) is None
    assert queries.user_of_bearer(others) == bob
    with pytest.raises(operations.WrongCredentials):
        operations.log_in(email=alice.email, password=PASSWORD)
    with pytest.raises(operations.WrongPassword):
        operations.change_password(actor=alice, current_password=PASSWORD, new_password=NEW_PASSWORD)
    assert events(NOBODY)[-1][0::3] == ("user.deactivated", {})


def test_who_is_deactivated_while_their_request_runs_does_nothing_more(alice, account):
    """It was let in, and waited for a lock."""
    operations.deactivate_user(email=alice.email)
    recorded = len(events())
    with pytest.raises(operations.NotFound):
        operations.rotate_token(actor=alice, account_id=account.pk)
    with pytest.raises(operations.NotAllowed):
        operations.create_account(actor=alice, name="Another")
    assert len(events()) == recorded
    operations.activate_user(email=alice.email)
    operations.rotate_token(actor=alice, account_id=account.pk)


def test_who_is_let_in_again_has_to_log_in_again(alice):
    text, _ = operations.log_in(email=alice.email, password=PASSWORD)
    begun = alice.get_session_auth_hash()
    operations.deactivate_user(email=alice.email)
    assert operations.activate_user(email=alice.email)
    assert not operations.activate_user(email=alice.email)
    assert queries.user_of_bearer(text) is None
    assert User.objects.get().get_session_auth_hash() != begun
    assert operations.log_in(email=alice.email, password=PASSWORD).user == alice
    assert types(NOBODY)[-3:] == ["user.deactivated", "user.activated", "user.logged_in"]


def test_an_operator_shuts_users_out_by_a_command(alice, capsys):
    call_command("user", "deactivate", alice.email)
    call_command("user", "deactivate", alice.email)
    call_command("user", "activate", alice.email)
    assert capsys.readouterr().out.splitlines() == [
        "The user is deactivated now.",
        "The user is deactivated, and was before.",
        "The user is activated now.",
    ]
    with pytest.raises(CommandError, match="Nobody"):
        call_command("user", "activate", "nobody@people.example.com")


def test_logging_out_ends_this_token_at_once_and_no_other(alice):
    one, other = (operations.log_in(email=alice.email, password=PASSWORD).access_token for _ in range(2))
    operations.log_out(access_token=one)
    operations.log_out(access_token=one)  # again: nothing to do
    assert queries.user_of_bearer(one) is None
    assert queries.user_of_bearer(other) == alice
    assert [kind for kind, *_ in events()].count("user.logged_out") == 1


def test_a_password_that_is_set_by_djangos_own_means_ends_what_the_old_one_began(alice, bob, monkeypatch):
    mine, others = (
        operations.log_in(email=who.email, password=PASSWORD).access_token for who in (alice, bob)
    )
    monkeypatch.setattr("getpass.getpass", lambda **_: NEW_PASSWORD)
    call_command("changepassword", alice.email, stdout=io.StringIO())
    assert queries.user_of_bearer(mine) is None
    assert queries.user_of_bearer(others) == bob
    assert events(NOBODY)[-1][0::3] == ("user.password_changed", {})
    assert operations.log_in(email=alice.email, password=NEW_PASSWORD).user == alice


def test_a_password_that_is_set_for_the_invited_uses_the_invitation_up(alice, account, monkeypatch):
    email = "new@people.example.com"
    operations.add_member(actor=alice, account_id=account.pk, email=email, role="Normal user")
    monkeypatch.setattr("getpass.getpass", lambda **_: NEW_PASSWORD)
    call_command("changepassword", email, stdout=io.StringIO())
    assert not Invitation.objects.exists()
    assert operations.log_in(email=email, password=NEW_PASSWORD)


@pytest.mark.parametrize("text", ["", "Bearer", tokens.make().text, tokens.make_access().text, "\ud800"])
def test_another_text_is_nobodys_token(alice, text):
    assert queries.user_of_bearer(text) is None
    operations.log_out(access_token=text)


def test_a_token_ends_by_the_clock_and_goes_at_the_next_log_in(alice):
    text, _ = operations.log_in(email=alice.email, password=PASSWORD)
    AccessToken.objects.update(expires_at=Now() - timedelta(seconds=1))
    assert queries.user_of_bearer(text) is None
    operations.log_in(email=alice.email, password=PASSWORD)
    assert AccessToken.objects.count() == 1


def test_an_outdated_hash_is_renewed_at_log_in(settings):
    alice = register("alice")
    settings.PASSWORD_HASHERS = [
        "django.contrib.auth.hashers.Argon2PasswordHasher",
        *settings.PASSWORD_HASHERS,
    ]
    operations.log_in(email=alice.email, password=PASSWORD)
    assert User.objects.get().password.startswith("argon2")
    assert operations.log_in(email=alice.email, password=PASSWORD).user == alice


def test_djangos_own_authentication_knows_our_users(alice):
    """For sessions: the console's, later."""
    assert authenticate(username="ALICE@people.example.com", password=PASSWORD) == alice
    assert authenticate(username=alice.email, password="wrong") is None
