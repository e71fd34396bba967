"""Invitations: who gets one, what the mail says, and how it becomes a password, once."""

import email
import logging
import re
from datetime import timedelta
from email.policy import default
from smtplib import SMTPServerDisconnected

import pytest
from django.core import mail
from django.core.mail.backends.base import BaseEmailBackend
from django.db import connection, transaction
from django.db.models.functions import Now

from accounts import operations, queries, slowdown, tokens
from accounts.models import Account, Failure, Invitation, Member, User
from accounts.operations import invitation
from tests.accounts.conftest import PASSWORD, register
from tests.accounts.races import at_once
from tests.accounts.recorded import NOBODY, events, everything, types

DORA = "dora@people.example.com"
TOKEN = re.compile(r"cli_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}")


@pytest.fixture
def commit(django_capture_on_commit_callbacks):
    """What is done in here is followed by what comes after its commit."""
    return lambda: django_capture_on_commit_callbacks(execute=True)


@pytest.fixture
def invite(alice, account, commit):
    def invite(address: str = DORA, *, to: Account = account, by: User = alice) -> Member:
        with commit():
            return operations.add_member(actor=by, account_id=to.pk, email=address, role="Normal user")

    return invite


def last_token() -> str:
    (found,) = TOKEN.findall(mail.outbox[-1].body)
    return found


def accept(token: str, password: str = PASSWORD) -> User:
    return operations.accept_invitation(token=token, password=password)


def let_time_pass(seconds: float) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE accounts_invitation SET created_at = created_at - %s, expires_at = expires_at - %s",
            [timedelta(seconds=seconds)] * 2,
        )


class FailingBackend(BaseEmailBackend):
    def send_messages(self, messages):
        raise SMTPServerDisconnected(f"said {messages[0].body}")


class RefusingBackend(BaseEmailBackend):
    def send_messages(self, messages):
        return len(messages[1:])


def use(settings, backend: type) -> None:
    settings.MAILERS = {"default": {"BACKEND": f"{backend.__module__}.{backend.__name__}"}}


@pytest.mark.django_db
class TestInviting:
    def test_who_is_not_known_gets_a_mail_after_the_commit(self, alice, account, settings, commit):
        settings.PUBLIC_URL = "https://pusher.example.com"
        with commit():
            member = operations.add_member(actor=alice, account_id=account.pk, email=DORA, role="Admin")
            assert member.invitation_sent is None
            assert mail.outbox == []
        assert member.invitation_sent is True
        (message,) = mail.outbox
        assert (message.to, message.cc, message.bcc) == ([DORA], [], [])
        assert message.from_email == settings.DEFAULT_FROM_EMAIL
        assert 'the account "Orders"' in message.body
        assert "curl https://pusher.example.com/api/v1/auth/invitations/accept/ " in message.body
        assert alice.email not in message.body
        expires_at = Invitation.objects.get().expires_at
        assert expires_at.strftime("before %Y-%m-%d %H:%M UTC") in message.body

    def test_it_expires_as_the_operator_says_by_the_clock_of_the_database(self, invite, settings):
        settings.INVITATION_SECONDS = 120
        invite()
        row = Invitation.objects.get()
        assert row.expires_at - row.created_at == timedelta(seconds=120)
        assert queries.members_of(Member.objects.get(user=row.user).account_id).count() == 3

    def test_what_is_undone_invites_nobody(self, alice, account, commit):
        with commit(), transaction.atomic():
            operations.add_member(actor=alice, account_id=account.pk, email=DORA, role="Admin")
            transaction.set_rollback(True)
        assert mail.outbox == []

    @pytest.mark.parametrize(
        "name", ["Bcc: eve@evil.example", "100% {token} %s {0}", "x" * 200, "“ \u202e ,;"]
    )
    def test_a_name_of_an_account_is_text_and_nothing_else(self, alice, commit, name):
        account = operations.create_account(actor=alice, name=name).account
        with commit():
            operations.add_member(actor=alice, account_id=account.pk, email=DORA, role="Admin")
        read = email.message_from_bytes(mail.outbox[0].message().as_bytes(), policy=default)
        mime = {"Content-Type", "Content-Transfer-Encoding", "MIME-Version"}
        assert set(read.keys()) == {"Subject", "From", "To", "Date", "Message-ID", *mime}
        assert read["Subject"] == "Your invitation to Data Pusher"
        assert f'"{name if len(name) <= 80 else name[:79] + "…"}"' in read.get_content()

    def test_who_has_a_password_or_was_deactivated_gets_none(self, charlie, invite):
        assert invite(charlie.email).invitation_sent is None
        register("eve")
        operations.deactivate_user(email="eve@people.example.com")
        assert invite("eve@people.example.com").invitation_sent is None
        assert (mail.outbox, Invitation.objects.count()) == ([], 0)

    def test_a_newer_one_takes_the_place_of_the_older(self, alice, invite):
        invite()
        older = last_token()
        let_time_pass(invitation.MAIL_PAUSE_SECONDS)
        other = operations.create_account(actor=alice, name="Returns").account
        assert invite(to=other).invitation_sent is True
        assert 'the account "Returns"' in mail.outbox[-1].body
        with pytest.raises(operations.UnknownInvitation):
            accept(older)
        assert accept(last_token()).email == DORA
        assert types(NOBODY).count("user.invited") == 2

    def test_nobody_is_flooded_with_mail_through_us(self, alice, account, invite):
        """Anybody may register, and add anybody."""
        first = invite()
        for _ in range(3):
            operations.remove_member(
                actor=alice, account_id=account.pk, member_id=Member.objects.get(user__email=DORA).pk
            )
            assert invite().invitation_sent is False
        assert (first.invitation_sent, len(mail.outbox)) == (True, 1)
        accept(last_token())

    def test_nobody_sends_mail_to_everybody_through_us(self, bob, invite, monkeypatch):
        monkeypatch.setattr(slowdown, "BY_INVITER", slowdown.Limit("inviter", 3, 300))
        sent = [invite(f"{number}@people.example.com").invitation_sent for number in range(5)]
        assert sent == [True, True, True, False, False]
        assert (len(mail.outbox), Invitation.objects.count()) == (3, 3)
        mine = operations.create_account(actor=bob, name="Bob's").account
        assert invite("other@people.example.com", to=mine, by=bob).invitation_sent is True
        Failure.objects.update(paused_until=Now())
        assert invite("late@people.example.com").invitation_sent is True

    def test_an_expired_one_does_not_keep_the_next_from_being_mailed(self, alice, invite, settings):
        settings.INVITATION_SECONDS = 60
        invite()
        let_time_pass(61)
        other = operations.create_account(actor=alice, name="Returns").account
        assert invite(to=other).invitation_sent is True

    @pytest.mark.parametrize("backend", [FailingBackend, RefusingBackend])
    def test_a_mail_server_that_fails_undoes_nothing_and_is_told(
        self, alice, invite, settings, caplog, backend
    ):
        use(settings, backend)
        with caplog.at_level(logging.DEBUG):
            member = invite()
        assert member.invitation_sent is False
        assert Member.objects.filter(pk=member.pk).exists()
        assert not Invitation.objects.exists()
        assert not TOKEN.search(caplog.text)
        assert DORA not in caplog.text
        # The next may be mailed at once.
        settings.MAILERS = {"default": {"BACKEND": "django.core.mail.backends.locmem.EmailBackend"}}
        other = operations.create_account(actor=alice, name="Returns").account
        assert invite(to=other).invitation_sent is True

    def test_only_the_digest_is_stored_and_nothing_of_it_is_recorded(self, invite):
        invite()
        token = last_token()
        with connection.cursor() as cursor:
            cursor.execute("SELECT string_agg(i::text, ' ') FROM accounts_invitation i")
            stored = cursor.fetchone()[0]
        for text in (stored, everything()):
            assert token[17:] not in text
            assert DORA not in text


@pytest.mark.django_db
class TestAccepting:
    def test_it_sets_the_password_and_lets_in(self, invite):
        member = invite()
        user = accept(last_token())
        assert user == member.user
        assert operations.log_in(email=DORA, password=PASSWORD).user == user
        assert (user.registered, user.updated_by) == (False, user)
        assert not queries.may_create_accounts(user)
        assert not Invitation.objects.exists()
        assert [(kind, data) for kind, stream, _, data in events(NOBODY) if stream == user.pk][1:] == [
            ("user.joined", {"actor": str(user.pk)}),
            ("user.logged_in", {"actor": str(user.pk)}),
        ]

    def test_expired_used_unknown_and_impossible_ones_are_told_alike(self, alice, invite):
        invite()
        used = last_token()
        accept(used)
        invite("eve@people.example.com")
        expired = last_token()
        Invitation.objects.update(expires_at=Now() - timedelta(seconds=1))
        access = operations.log_in(email=alice.email, password=PASSWORD).access_token
        unknown = [tokens.make_invitation().text, tokens.make().text, access, "", "x", "\ud800", "\0"]
        told = set()
        for token in [used, expired, *unknown]:
            with pytest.raises(operations.UnknownInvitation) as refusal:
                accept(token, "another password 1")
            told.add(str(refusal.value.errors))
        assert len(told) == 1
        assert operations.log_in(email=DORA, password=PASSWORD)

    def test_a_bad_password_is_refused_by_its_field_and_the_invitation_stays(self, invite):
        invite()
        for password in ("short", "password123", DORA, "with\0nul and more"):
            with pytest.raises(operations.Invalid) as refusal:
                accept(last_token(), password)
            assert list(refusal.value.errors) == ["password"]
        accept(last_token())

    def test_who_was_deactivated_accepts_nothing_also_when_let_in_again(self, invite):
        invite()
        operations.deactivate_user(email=DORA)
        with pytest.raises(operations.UnknownInvitation):
            accept(last_token())
        operations.activate_user(email=DORA)
        with pytest.raises(operations.UnknownInvitation):
            accept(last_token())

    def test_an_invited_address_is_still_not_registered_over(self, invite):
        invite()
        with pytest.raises(operations.EmailTaken):
            operations.register_user(email=DORA, password=PASSWORD)
        accept(last_token())


@pytest.mark.usefixtures("database")
class TestRaces:
    def test_of_several_who_accept_at_once_one_wins(self):
        alice = register("alice")
        account = operations.create_account(actor=alice, name="Orders").account
        operations.add_member(actor=alice, account_id=account.pk, email=DORA, role="Admin")
        token = last_token()
        passwords = [f"{PASSWORD} {number}" for number in range(3)]
        results = at_once(*[lambda password=password: accept(token, password) for password in passwords])
        assert sorted(results) == ["UnknownInvitation", "UnknownInvitation", "done"]
        assert operations.log_in(email=DORA, password=passwords[results.index("done")])
        assert types(NOBODY).count("user.joined") == 1

    def test_added_to_two_accounts_at_once_is_invited_once(self):
        alice = register("alice")
        accounts = [operations.create_account(actor=alice, name=name).account for name in ("A", "B")]
        results = at_once(
            *[
                lambda pk=made.pk: operations.add_member(actor=alice, account_id=pk, email=DORA, role="Admin")
                for made in accounts
            ]
        )
        assert results == ["done", "done"]
        assert Member.objects.filter(user__email=DORA).count() == 2
        assert len(mail.outbox) == 1
        accept(last_token())
