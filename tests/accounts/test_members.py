"""Members: who joins, who leaves, and that somebody always administers the account."""

import threading
from collections.abc import Callable

import pytest
from django.db import connection, transaction

from accounts import operations, queries
from accounts.models import Member, User
from tests.accounts.conftest import add_destination, register
from tests.accounts.races import at_once
from tests.accounts.recorded import NOBODY, events, types


def of(user: User, account) -> Member:
    return Member.objects.get(account=account, user=user)


@pytest.mark.django_db
class TestAdding:
    def test_a_known_user_joins_as_they_are(self, alice, charlie, account):
        member = operations.add_member(
            actor=alice, account_id=account.pk, email="CHARLIE@people.example.com", role="Admin"
        )
        assert (member.user, member.role_name, member.role.role_name) == (charlie, "Admin", "Admin")
        assert (member.created_by, member.updated_by) == (alice, alice)
        assert queries.role_of(charlie.pk, account.pk) == "Admin"

    def test_an_unknown_user_is_invited_and_cannot_log_in(self, alice, account):
        member = operations.add_member(
            actor=alice, account_id=account.pk, email="New@people.example.com", role="Normal user"
        )
        user = User.objects.get(email="new@people.example.com")
        assert member.user == user
        assert (user.registered, user.is_active, user.has_usable_password()) == (False, True, False)
        assert (user.created_by, user.updated_by) == (alice, alice)
        assert types(NOBODY)[-1] == "user.invited"

    def test_nobody_is_a_member_twice(self, alice, bob, account):
        with pytest.raises(operations.AlreadyMember):
            operations.add_member(actor=alice, account_id=account.pk, email=bob.email, role="Admin")
        assert of(bob, account).role_name == "Normal user"

    def test_all_wrong_fields_are_told_at_once_and_nobody_is_invited(self, alice, account):
        with pytest.raises(operations.Invalid) as refusal:
            operations.add_member(actor=alice, account_id=account.pk, email="nobody", role="Owner")
        assert set(refusal.value.errors) == {"email", "role"}
        with pytest.raises(operations.Invalid):
            operations.add_member(
                actor=alice, account_id=account.pk, email="n@people.example.com", role="Owner"
            )
        assert User.objects.count() == 2


@pytest.mark.django_db
class TestRoles:
    def test_an_admin_changes_anothers_role_and_it_counts_at_once(self, alice, bob, account):
        with pytest.raises(operations.NotAllowed):
            operations.rotate_token(actor=bob, account_id=account.pk)
        operations.update_member(
            actor=alice, account_id=account.pk, member_id=of(bob, account).pk, role="Admin", revision=1
        )
        operations.rotate_token(actor=bob, account_id=account.pk)
        assert of(bob, account).revision == 2

    def test_the_same_role_is_no_change(self, alice, bob, account):
        operations.update_member(
            actor=alice, account_id=account.pk, member_id=of(bob, account).pk, role="Normal user"
        )
        assert of(bob, account).revision == 1

    def test_nobody_changes_their_own(self, alice, bob, account):
        operations.update_member(
            actor=alice, account_id=account.pk, member_id=of(bob, account).pk, role="Admin"
        )
        with pytest.raises(operations.OwnRole):
            operations.update_member(
                actor=alice, account_id=account.pk, member_id=of(alice, account).pk, role="Normal user"
            )
        assert of(alice, account).role_name == "Admin"

    def test_a_stale_revision_is_refused(self, alice, bob, account):
        with pytest.raises(operations.Stale):
            operations.update_member(
                actor=alice, account_id=account.pk, member_id=of(bob, account).pk, role="Admin", revision=5
            )

    def test_a_normal_user_changes_nobody(self, alice, bob, account):
        for attempt in (
            lambda pk: operations.update_member(actor=bob, account_id=account.pk, member_id=pk, role="Admin"),
            lambda pk: operations.remove_member(actor=bob, account_id=account.pk, member_id=pk),
        ):
            for user in (alice, bob):
                with pytest.raises(operations.NotAllowed):
                    attempt(of(user, account).pk)


@pytest.mark.django_db
class TestLeaving:
    def test_a_removed_member_is_out_at_once_and_stays_a_user(self, alice, bob, account):
        operations.remove_member(actor=alice, account_id=account.pk, member_id=of(bob, account).pk)
        assert queries.role_of(bob.pk, account.pk) is None
        with pytest.raises(operations.NotFound):
            operations.update_account(actor=bob, account_id=account.pk, changes={"name": "x"})
        assert User.objects.filter(pk=bob.pk).exists()

    def test_the_last_admin_stays_an_admin(self, alice, bob, account):
        own = of(alice, account).pk
        with pytest.raises(operations.LastAdmin):
            operations.remove_member(actor=alice, account_id=account.pk, member_id=own)
        with pytest.raises(operations.LastAdmin):
            operations.update_member(actor=alice, account_id=account.pk, member_id=own, role="Normal user")
        operations.update_member(
            actor=alice, account_id=account.pk, member_id=of(bob, account).pk, role="Admin"
        )
        operations.remove_member(actor=alice, account_id=account.pk, member_id=own)
        assert queries.role_of(alice.pk, account.pk) is None

    def test_a_member_of_another_account_is_not_there(self, alice, bob, account):
        other = operations.create_account(actor=alice, name="Other").account
        with pytest.raises(operations.NotFound):
            operations.remove_member(actor=alice, account_id=other.pk, member_id=of(bob, account).pk)


@pytest.fixture
def two_admins(database):
    one, two = register("one"), register("two")
    account = operations.create_account(actor=one, name="Shared").account
    operations.add_member(actor=one, account_id=account.pk, email=two.email, role="Admin")
    return one, two, account


def remover(actor: User, leaving: Member) -> Callable[[], None]:
    return lambda: operations.remove_member(actor=actor, account_id=leaving.account_id, member_id=leaving.pk)


def demoter(actor: User, member: Member) -> Callable[[], Member]:
    return lambda: operations.update_member(
        actor=actor, account_id=member.account_id, member_id=member.pk, role="Normal user"
    )


class TestRaces:
    @pytest.mark.parametrize("attempt", [remover, demoter])
    def test_two_admins_against_each_other_leave_one(self, two_admins, attempt):
        one, two, account = two_admins
        results = at_once(attempt(one, of(two, account)), attempt(two, of(one, account)))
        assert sorted(results) in (["NotFound", "done"], ["NotAllowed", "done"])
        assert Member.objects.filter(account=account, role=1).count() == 1

    def test_two_admins_who_leave_at_once_leave_one(self, two_admins):
        one, two, account = two_admins
        results = at_once(remover(one, of(one, account)), remover(two, of(two, account)))
        assert sorted(results) == ["LastAdmin", "done"]
        assert Member.objects.filter(account=account, role=1).count() == 1

    def test_a_removal_that_waits_for_the_lock_sees_what_happened_meanwhile(self, two_admins):
        """The order that a lucky race may not show: the second asks before the first commits."""
        one, two, account = two_admins
        theirs, mine = remover(one, of(two, account)), remover(two, of(one, account))
        results: list[list[str]] = []
        waiting = threading.Thread(target=lambda: results.append(at_once(mine)))
        with transaction.atomic():
            theirs()
            waiting.start()
            wait_for_a_waiter()
        waiting.join(30)
        assert results == [["NotFound"]]

    def test_the_same_new_address_added_to_two_accounts_at_once_is_one_user(self, two_admins):
        one, _, account = two_admins
        other = operations.create_account(actor=one, name="Other").account
        results = at_once(
            *(
                lambda pk=pk: operations.add_member(
                    actor=one, account_id=pk, email="n@people.example.com", role="Admin"
                )
                for pk in (account.pk, other.pk)
            )
        )
        assert results == ["done", "done"]
        assert Member.objects.filter(user=User.objects.get(email="n@people.example.com")).count() == 2
        assert types(NOBODY).count("user.invited") == 1

    @pytest.mark.usefixtures("database")
    def test_the_same_address_registered_at_once_is_one_user(self):
        results = at_once(*[lambda: register("same")] * 4)
        assert sorted(results) == ["EmailTaken", "EmailTaken", "EmailTaken", "done"]
        assert types(NOBODY) == ["user.registered"]

    def test_a_destination_created_while_its_account_is_deleted_leaves_nothing(self, two_admins):
        one, _, account = two_admins
        results = at_once(
            lambda: operations.delete_account(actor=one, account_id=account.pk),
            lambda: add_destination(one, account),
        )
        assert results[0] == "done"
        assert results[1] in {"done", "NotFound"}
        assert events(account.pk)[-1][0] == "account.deleted"
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM accounts_destination")
            assert cursor.fetchone() == (0,)


def wait_for_a_waiter() -> None:
    with connection.cursor() as cursor:
        for _ in range(500):
            cursor.execute("SELECT pg_sleep(0.01), pg_stat_clear_snapshot()")
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            if cursor.fetchone()[0]:
                return
    raise AssertionError("nobody waits for the lock")
