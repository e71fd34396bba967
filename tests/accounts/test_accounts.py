"""Accounts and their tokens: who makes them, how they change, what goes with them."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from django.db import connection, transaction
from django.db.models import ProtectedError
from django.db.models.functions import Now

from accounts import operations, queries, signals, tokens
from accounts.models import Account, Destination, IngestToken, Member, User
from tests.accounts.conftest import add_destination
from tests.accounts.recorded import types

pytestmark = pytest.mark.django_db


def accepted(text: str) -> tuple | None:
    """What the receiver finds for this token: (account, limit)."""
    presented = tokens.parse(text)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT account_id, rate_limit FROM pusher.intake_token WHERE key_id = %s AND digest = %s",
            [presented.key_id, presented.digest],
        )
        return cursor.fetchone()


class TestCreating:
    def test_its_maker_is_its_admin_and_the_token_works(self, alice):
        account, secret = operations.create_account(actor=alice, name="Orders", website="https://example.com")
        assert queries.role_of(alice.pk, account.pk) == "Admin"
        assert (account.created_by, account.updated_by, account.revision) == (alice, alice, 1)
        assert accepted(secret) == (account.pk, 5)
        assert IngestToken.objects.get().hint in f"{secret[:17]}..."

    def test_the_secret_is_stored_nowhere(self, alice):
        _, secret = operations.create_account(actor=alice, name="Orders")
        with connection.cursor() as cursor:
            cursor.execute("SELECT string_agg(t::text, ' ') FROM accounts_ingesttoken t")
            assert secret[17:] not in cursor.fetchone()[0]

    def test_all_wrong_fields_are_told_at_once_and_nothing_is_left(self, alice):
        with pytest.raises(operations.Invalid) as refusal:
            operations.create_account(actor=alice, name=" ", website="x", rate_limit_per_second=0)
        assert set(refusal.value.errors) == {"name", "website", "rate_limit_per_second"}
        assert not Account.objects.exists()

    def test_who_was_only_invited_as_a_normal_user_may_not(self, alice, account):
        invited = operations.add_member(
            actor=alice, account_id=account.pk, email="i@people.example.com", role="Normal user"
        )
        with pytest.raises(operations.NotAllowed):
            operations.create_account(actor=invited.user, name="Mine")
        operations.update_member(actor=alice, account_id=account.pk, member_id=invited.pk, role="Admin")
        operations.create_account(actor=invited.user, name="Mine")


class TestUpdating:
    def test_who_and_when_and_the_revision_are_kept(self, bob, account):
        before = Account.objects.get()
        account = operations.update_account(actor=bob, account_id=account.pk, changes={"name": "New"})
        stored = Account.objects.get()
        assert (stored.name, stored.revision) == ("New", 2)
        assert (stored.created_by, stored.updated_by) == (before.created_by, bob)
        assert stored.created_at == before.created_at
        assert stored.updated_at == account.updated_at > before.updated_at

    def test_nothing_changed_is_no_change(self, bob, account):
        count = len(types(account.pk))
        operations.update_account(
            actor=bob, account_id=account.pk, changes={"name": "Orders", "rate_limit_per_second": 5}
        )
        stored = Account.objects.get()
        assert (stored.revision, stored.updated_by) == (1, account.updated_by)
        assert len(types(account.pk)) == count

    def test_a_stale_revision_is_refused(self, alice, account):
        operations.update_account(actor=alice, account_id=account.pk, changes={"name": "B"}, revision=1)
        with pytest.raises(operations.Stale) as refusal:
            operations.update_account(actor=alice, account_id=account.pk, changes={"name": "C"}, revision=1)
        assert refusal.value.revision == 2
        assert Account.objects.get().name == "B"

    def test_the_limit_is_an_admins(self, alice, bob, account):
        with pytest.raises(operations.NotAllowed):
            operations.update_account(actor=bob, account_id=account.pk, changes={"rate_limit_per_second": 9})
        assert Account.objects.get().rate_limit_per_second == 5
        operations.update_account(actor=alice, account_id=account.pk, changes={"rate_limit_per_second": 9})
        assert Account.objects.get().rate_limit_per_second == 9

    def test_the_operator_bounds_the_limit(self, alice, account, settings):
        settings.RATE_LIMIT_MAX = 8
        with pytest.raises(operations.Invalid) as refusal:
            operations.update_account(
                actor=alice, account_id=account.pk, changes={"rate_limit_per_second": 9}
            )
        assert list(refusal.value.errors) == ["rate_limit_per_second"]

    def test_other_fields_are_the_programmers_mistake(self, alice, account):
        with pytest.raises(TypeError, match="revision"):
            operations.update_account(actor=alice, account_id=account.pk, changes={"revision": 9})


class TestStrangers:
    @pytest.mark.parametrize(
        "attempt",
        [
            lambda who, pk: operations.update_account(actor=who, account_id=pk, changes={"name": "Mine"}),
            lambda who, pk: operations.rotate_token(actor=who, account_id=pk),
            lambda who, pk: operations.delete_account(actor=who, account_id=pk),
            lambda who, pk: operations.add_member(actor=who, account_id=pk, email=who.email, role="Admin"),
            lambda who, pk: add_destination(who, Account(pk=pk)),
            queries.account,
        ],
    )
    def test_an_account_is_not_there_for_them(self, charlie, account, attempt):
        for pk in (account.pk, uuid4()):
            with pytest.raises(operations.NotFound):
                attempt(charlie, pk)

    @pytest.mark.parametrize(
        "attempt",
        [
            lambda who, pk: operations.rotate_token(actor=who, account_id=pk),
            lambda who, pk: operations.delete_account(actor=who, account_id=pk),
            lambda who, pk: operations.add_member(actor=who, account_id=pk, email="x@y.zz", role="Admin"),
            lambda who, pk: add_destination(who, Account(pk=pk)),
        ],
    )
    def test_a_normal_user_may_not(self, bob, account, attempt):
        count = len(types(account.pk))
        with pytest.raises(operations.NotAllowed):
            attempt(bob, account.pk)
        assert len(types(account.pk)) == count


class TestRotatingTheToken:
    def test_without_overlap_the_old_one_ends_at_once(self, alice):
        account, old = operations.create_account(actor=alice, name="Orders")
        _, new = operations.rotate_token(actor=alice, account_id=account.pk)
        assert accepted(old) is None
        assert accepted(new) == (account.pk, 5)
        assert IngestToken.objects.count() == 1

    def test_with_overlap_both_are_valid_until_it_ends(self, alice):
        account, old = operations.create_account(actor=alice, name="Orders")
        made, new = operations.rotate_token(actor=alice, account_id=account.pk, overlap_seconds=3600)
        assert accepted(old) == accepted(new) == (account.pk, 5)
        end = IngestToken.objects.exclude(pk=made.pk).get().expires_at
        assert timedelta(minutes=59) < end - datetime.now(UTC) <= timedelta(hours=1)
        IngestToken.objects.exclude(pk=made.pk).update(expires_at=Now())
        assert accepted(old) is None
        assert [token.pk for token in queries.tokens_of(account.pk)] == [made.pk]

    def test_a_second_rotation_never_prolongs_the_first(self, alice):
        account, first = operations.create_account(actor=alice, name="Orders")
        operations.rotate_token(actor=alice, account_id=account.pk, overlap_seconds=60)
        end = IngestToken.objects.exclude(expires_at=None).get().expires_at
        _, third = operations.rotate_token(actor=alice, account_id=account.pk, overlap_seconds=3600)
        assert IngestToken.objects.order_by("expires_at").first().expires_at == end
        operations.rotate_token(actor=alice, account_id=account.pk)  # an emergency: all end
        assert accepted(first) is accepted(third) is None

    @pytest.mark.parametrize("seconds", [-1, 7 * 24 * 3600 + 1])
    def test_an_overlap_is_at_most_a_week(self, alice, account, seconds):
        with pytest.raises(operations.Invalid):
            operations.rotate_token(actor=alice, account_id=account.pk, overlap_seconds=seconds)
        operations.rotate_token(actor=alice, account_id=account.pk, overlap_seconds=7 * 24 * 3600)

    def test_tokens_do_not_pile_up(self, alice, account):
        for _ in range(9):
            operations.rotate_token(actor=alice, account_id=account.pk, overlap_seconds=60)
        with pytest.raises(operations.TooManyTokens), transaction.atomic():
            operations.rotate_token(actor=alice, account_id=account.pk, overlap_seconds=60)
        operations.rotate_token(actor=alice, account_id=account.pk)
        assert IngestToken.objects.count() == 1

    def test_the_account_shows_the_newest_tokens_hint(self, alice, account):
        token, _ = operations.rotate_token(actor=alice, account_id=account.pk, overlap_seconds=60)
        shown = queries.account(alice, account.pk)
        assert (shown.token_hint, shown.token_created_at) == (token.hint, token.created_at)

    def test_it_changes_what_the_account_shows_so_it_is_a_revision(self, alice, account):
        before = queries.account(alice, account.pk)
        token, _ = operations.rotate_token(actor=alice, account_id=account.pk, revision=before.revision)
        after = queries.account(alice, account.pk)
        assert (after.revision, token.account.revision) == (before.revision + 1,) * 2
        assert after.updated_at > before.updated_at
        with pytest.raises(operations.Stale):
            operations.rotate_token(actor=alice, account_id=account.pk, revision=before.revision)
        assert queries.account(alice, account.pk).token_hint == token.hint


class TestDeleting:
    @pytest.mark.usefixtures("destination")
    def test_everything_of_it_goes_and_people_stay(self, alice, account):
        other = operations.create_account(actor=alice, name="Other").account
        operations.delete_account(actor=alice, account_id=account.pk)
        assert list(Account.objects.all()) == [other]
        assert not Destination.objects.exists()
        assert IngestToken.objects.get().account == other
        assert Member.objects.get().account == other
        assert User.objects.count() == 2
        assert types(account.pk)[-1] == "account.deleted"

    def test_a_stale_revision_is_refused(self, alice, account):
        with pytest.raises(operations.Stale):
            operations.delete_account(actor=alice, account_id=account.pk, revision=7)
        assert Account.objects.exists()

    @pytest.mark.usefixtures("account")
    def test_a_person_who_made_something_cannot_be_deleted(self, alice):
        with pytest.raises(ProtectedError):
            alice.delete()

    def test_other_rooms_hear_of_it_before_the_rows_go_and_after_the_commit(
        self, alice, account, destination, heard, django_capture_on_commit_callbacks
    ):
        with django_capture_on_commit_callbacks(execute=True):
            operations.delete_account(actor=alice, account_id=account.pk)
            assert ("account_deleted", account.pk, False) not in heard
        assert heard[0] == ("account_deleting", account.pk, True)
        assert heard[-1] == ("account_deleted", account.pk, False)
        assert ("destination_changed", destination.pk) in heard

    def test_however_it_is_deleted(self, account, heard):
        Account.objects.filter(pk=account.pk).delete()
        assert heard[0] == ("account_deleting", account.pk, True)

    def test_a_room_that_cannot_do_its_part_stops_it(self, alice, account):
        def fail(**_):
            raise OSError("no room")

        signals.account_deleting.connect(fail)
        try:
            with pytest.raises(OSError, match="no room"), transaction.atomic():
                operations.delete_account(actor=alice, account_id=account.pk)
        finally:
            signals.account_deleting.disconnect(fail)
        assert Account.objects.filter(pk=account.pk).exists()


@pytest.fixture
def heard(account):
    """What other rooms hear, and whether the account was still there."""
    notes: list[tuple] = []

    def deleting(*, account_id, **_):
        notes.append(("account_deleting", account_id, Account.objects.filter(pk=account_id).exists()))

    def deleted(*, account_id, **_):
        notes.append(("account_deleted", account_id, Account.objects.filter(pk=account_id).exists()))

    def changed(*, destination_id, **_):
        notes.append(("destination_changed", destination_id))

    signals.account_deleting.connect(deleting)
    signals.account_deleted.connect(deleted)
    signals.destination_changed.connect(changed)
    yield notes
    signals.account_deleting.disconnect(deleting)
    signals.account_deleted.disconnect(deleted)
    signals.destination_changed.disconnect(changed)


def test_a_list_shows_each_of_my_accounts_once_with_my_role(alice, bob, account):
    own = operations.create_account(actor=bob, name="Bob's").account
    roles = {found.pk: found.member_role_id for found in queries.accounts_of(bob)}
    assert roles == {account.pk: 2, own.pk: 1}
    assert [found.pk for found in queries.accounts_of(alice)] == [account.pk]


def test_lists_take_one_query_each(alice, account, destination, django_assert_num_queries):
    for _ in range(5):
        add_destination(alice, operations.create_account(actor=alice, name="More").account)
        add_destination(alice, account)
    with django_assert_num_queries(3):
        assert [row.token_hint for row in queries.accounts_of(alice)]
        assert [row.shown_headers for row in queries.destinations_of(account.pk)]
        assert [(row.user.email, row.role.role_name) for row in queries.members_of(account.pk)]
