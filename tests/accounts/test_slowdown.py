"""Failures: how many are free, how long the pauses are, whom they keep out; none is lost or doubled."""

import subprocess
import sys
from pathlib import Path

import pytest
from django.db import connection, transaction

from accounts import operations, passwords, slowdown
from accounts.models import Failure
from accounts.slowdown import Limit, TooManyFailures
from tests.accounts.conftest import PASSWORD, register
from tests.accounts.races import at_once

HERE, THERE = "192.0.2.1", "2001:db8::/64"
ROOT = Path(__file__).resolve().parents[2]


class Wrong(Exception):
    """A failure."""


def fail(email: str = "a@people.example.com", address: str = HERE) -> None:
    with pytest.raises(Wrong), slowdown.attempt(Wrong, email=email, address=address):
        raise Wrong


def succeed(email: str = "a@people.example.com", address: str = HERE) -> None:
    with slowdown.attempt(Wrong, email=email, address=address):
        pass


def refused(email: str = "a@people.example.com", address: str = HERE) -> int:
    """For how many seconds."""
    with pytest.raises(TooManyFailures) as refusal, slowdown.attempt(Wrong, email=email, address=address):
        raise AssertionError("it was let in")
    return refusal.value.wait_seconds


def pass_time(seconds: float) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE accounts_failure SET last_at = last_at - %s * interval '1 second',"
            " paused_until = paused_until - %s * interval '1 second'",
            [seconds, seconds],
        )


def failures() -> list[int]:
    return sorted(Failure.objects.values_list("failures", flat=True))


@pytest.mark.django_db
class TestPauses:
    def test_they_begin_after_five_failures_and_double_up_to_half_a_minute(self):
        for _ in range(5):
            fail(address="")
        waits = []
        for _ in range(7):
            waits.append(refused(address=""))
            pass_time(waits[-1])
            fail(address="")
        assert waits == [1, 2, 4, 8, 16, 30, 30]

    def test_of_a_place_they_begin_after_twenty_and_grow_to_five_minutes(self):
        for number in range(20):
            fail(email=f"{number}@people.example.com")
        waits = []
        for number in range(10):
            waits.append(refused(email="another@people.example.com"))
            pass_time(waits[-1])
            fail(email=f"new{number}@people.example.com")
        assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]

    def test_a_refused_try_prolongs_nothing_and_counts_for_nobody(self):
        for _ in range(5):
            fail(address=HERE)
        for _ in range(3):
            assert refused(address=THERE) == 1
        assert failures() == [5, 5]  # the other place has no failure

    def test_who_fails_at_one_place_soon_keeps_nobody_out_who_is_elsewhere(self):
        for number in range(20):
            fail(email=f"{number}@people.example.com")
        refused("victim@people.example.com", HERE)
        succeed("victim@people.example.com", THERE)

    def test_after_an_hour_of_quiet_all_is_forgotten(self):
        for _ in range(5):
            fail()
        pass_time(slowdown.QUIET_SECONDS - 5)
        fail()
        assert failures() == [6, 6]
        pass_time(slowdown.QUIET_SECONDS)
        fail()
        assert failures() == [1, 1]

    def test_a_place_that_is_not_known_is_nobodys(self):
        for number in range(30):
            fail(email=f"{number}@people.example.com", address="")
        succeed(address="")


@pytest.mark.django_db
class TestGivingBack:
    def test_a_success_is_no_failure(self):
        for _ in range(4):
            fail()
        for _ in range(30):
            succeed()
        assert failures() == [4, 4]
        fail()
        assert refused() == 1

    def test_after_a_pause_who_succeeds_may_come_again_at_once(self):
        for _ in range(9):
            fail(address="")
            pass_time(30)
        succeed(address="")
        succeed(address="")
        assert failures() == [9]

    def test_it_ends_no_pause_that_another_try_began(self):
        for _ in range(4):
            fail(address="")
        with slowdown.attempt(Wrong, email="a@people.example.com", address=""):
            pass_time(1)  # the hash took long
            fail(address="")
        assert failures() == [5]
        assert refused(address="") == 2

    def test_what_fails_for_another_reason_is_no_failure(self):
        with pytest.raises(LookupError), slowdown.attempt(Wrong, email="a@people.example.com", address=HERE):
            raise LookupError
        assert failures() == [0, 0]

    def test_a_try_that_never_ended_stays_counted(self):
        attempt = slowdown.attempt(Wrong, email="a@people.example.com", address=HERE)
        attempt.__enter__()
        assert failures() == [1, 1]


@pytest.mark.django_db
class TestLoggingIn:
    def test_unknown_known_and_impossible_addresses_are_slowed_down_alike(self, alice):
        for email in (alice.email, "nobody@people.example.com", "not an address", "\ud800", "ALICE@b.co\0"):
            for _ in range(5):
                with pytest.raises(operations.WrongCredentials):
                    operations.log_in(email=email, password="wrong password")
            with pytest.raises(TooManyFailures) as refusal:
                operations.log_in(email=email, password=PASSWORD)
            assert refusal.value.wait_seconds == 1

    def test_a_refused_one_is_not_hashed_and_case_does_not_help(self, alice, monkeypatch):
        for _ in range(5):
            with pytest.raises(operations.WrongCredentials):
                operations.open_session(email=alice.email, password="wrong password")
        monkeypatch.setattr(passwords, "verify", None)
        for attempt in (operations.log_in, operations.open_session):
            with pytest.raises(TooManyFailures):
                attempt(email=alice.email.upper(), password=PASSWORD)

    def test_no_turn_to_hash_is_no_failure(self, alice, monkeypatch):
        monkeypatch.setattr(passwords, "WAIT_SECONDS", 0.01)
        with passwords.turn(), passwords.turn(), pytest.raises(operations.Busy):
            operations.log_in(email=alice.email, password="wrong password")
        assert failures() == [0]

    def test_changing_the_password_counts_with_logging_in(self, alice):
        for _ in range(5):
            with pytest.raises(operations.WrongPassword):
                operations.change_password(
                    actor=alice,
                    current_password="wrong password",
                    new_password="a better one 1",
                    address=HERE,
                )
        for attempt in (
            lambda: operations.log_in(email=alice.email, password=PASSWORD, address=THERE),
            lambda: operations.change_password(
                actor=alice, current_password=PASSWORD, new_password="a better one 1", address=THERE
            ),
        ):
            with pytest.raises(TooManyFailures):
                attempt()

    def test_guessing_invitations_is_slowed_down_by_place(self):
        for _ in range(20):
            with pytest.raises(operations.UnknownInvitation):
                operations.accept_invitation(token="cli_guess", password=PASSWORD, address=HERE)
        with pytest.raises(TooManyFailures):
            operations.accept_invitation(token="cli_guess", password=PASSWORD, address=HERE)

    def test_the_table_does_not_say_who_failed_or_where(self, alice):
        with pytest.raises(operations.WrongCredentials):
            operations.log_in(email=alice.email, password="wrong password", address=HERE)
        with connection.cursor() as cursor:
            cursor.execute("SELECT string_agg(f::text || encode(key, 'escape'), ' ') FROM accounts_failure f")
            text = cursor.fetchone()[0]
        assert alice.email not in text
        assert "alice" not in text
        assert HERE not in text
        assert failures() == [1, 1]

    def test_keys_are_of_this_installation(self, alice, settings):
        fail(alice.email)
        settings.SECRET_KEY = "another"
        fail(alice.email)
        assert failures() == [1, 1, 1, 1]


@pytest.mark.usefixtures("database")
class TestAtOnce:
    def test_none_is_lost(self, monkeypatch):
        monkeypatch.setattr(slowdown, "BY_EMAIL", Limit("email", 100, 30))
        monkeypatch.setattr(slowdown, "BY_ADDRESS", Limit("address", 100, 30))
        assert at_once(*[fail] * 8, *[succeed] * 8) == ["done"] * 16
        assert failures() == [8, 8]

    def test_after_a_pause_one_is_let_in(self):
        for _ in range(10):
            fail(address="")
            pass_time(30)
        attempts = at_once(*[lambda: fail(address="")] * 8)
        assert sorted(attempts) == ["TooManyFailures"] * 7 + ["done"]
        assert failures() == [11]

    def test_crossing_tries_do_not_deadlock(self, monkeypatch):
        monkeypatch.setattr(slowdown, "BY_EMAIL", Limit("email", 1000, 30))
        monkeypatch.setattr(slowdown, "BY_ADDRESS", Limit("address", 1000, 30))

        def cross(first: str, second: str) -> None:
            for _ in range(10):
                succeed(f"{first}@people.example.com", second)
                succeed(f"{second}@people.example.com", first)

        assert at_once(*[lambda: cross("x", "y"), lambda: cross("y", "x")] * 4) == ["done"] * 8
        assert failures() == [0, 0, 0, 0]

    def test_in_a_transaction_that_would_take_the_count_along_it_refuses_to_begin(self):
        with transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
            succeed()


@pytest.mark.slow
def test_another_process_counts_the_same(database):
    alice = register("alice")
    code = f"""
import django; django.setup()
from accounts import operations
for _ in range(4):
    try: operations.log_in(email={alice.email!r}, password="wrong password", address={HERE!r})
    except operations.WrongCredentials: print("wrong")
"""
    environment = {**database.environment, "SECRET_KEY": "only for tests"}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == ["wrong"] * 4
    with pytest.raises(operations.WrongCredentials):
        operations.log_in(email=alice.email, password="wrong password", address=HERE)
    assert failures() == [5, 5]
    with pytest.raises(TooManyFailures):
        operations.log_in(email=alice.email, password=PASSWORD, address=HERE)
