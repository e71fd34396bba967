"""How many passwords are hashed at once, and what of those that have no turn?"""

import threading
from contextlib import ExitStack

import pytest
from django.contrib.auth import hashers

from accounts import operations, passwords
from accounts.models import AccessToken, User
from tests.accounts.conftest import PASSWORD


class Hashes:
    """Hashes that take until they are let go, counted."""

    def __init__(self):
        self.running = self.most = self.ended = 0
        self.go = threading.Event()
        self.changed = threading.Condition()
        self._encode = hashers.MD5PasswordHasher.encode

    def encode(self, hasher, *given):
        with self.changed:
            self.running += 1
            self.most = max(self.most, self.running)
            self.changed.notify_all()
        assert self.go.wait(30)
        with self.changed:
            self.running -= 1
            self.ended += 1
        return self._encode(hasher, *given)

    def wait_for(self, running):
        with self.changed:
            assert self.changed.wait_for(lambda: self.running == running, 30)


@pytest.fixture
def hashes(monkeypatch):
    made = Hashes()

    def encode(hasher, *given):
        return made.encode(hasher, *given)

    monkeypatch.setattr(hashers.MD5PasswordHasher, "encode", encode)
    yield made
    made.go.set()


@pytest.fixture
def all_turns_taken(monkeypatch):
    monkeypatch.setattr(passwords, "WAIT_SECONDS", 0.05)
    with ExitStack() as taken:
        for _ in range(passwords.AT_ONCE):
            taken.enter_context(passwords.turn())
        yield


STORED = "md5$abcdefgh$0123"


@pytest.mark.parametrize(
    "hash_one",
    [
        lambda: passwords.make(PASSWORD),
        lambda: passwords.verify(PASSWORD, STORED),
        lambda: passwords.verify(PASSWORD, passwords.NO_PASSWORD),  # of somebody who isn't known
    ],
    ids=["make", "verify", "nobody"],
)
def test_only_two_are_hashed_at_once_and_a_few_wait(hashes, hash_one):
    many = passwords.AT_ONCE + passwords.MOST_WAITING
    threads = [threading.Thread(target=hash_one) for _ in range(many)]
    for thread in threads:
        thread.start()
    hashes.wait_for(running=passwords.AT_ONCE)
    hashes.go.set()
    for thread in threads:
        thread.join(30)
    assert (hashes.most, hashes.ended) == (2, many)


def test_the_line_is_short_and_who_finds_it_full_is_told_at_once(hashes):
    def wait() -> None:
        with passwords.turn():
            in_turn.release()

    in_turn = threading.Semaphore(0)
    with ExitStack() as taken:
        for _ in range(passwords.AT_ONCE):
            taken.enter_context(passwords.turn())
        threads = [threading.Thread(target=wait) for _ in range(passwords.MOST_WAITING)]
        for thread in threads:
            thread.start()
        while passwords._line._value:  # until all of them stand in line
            threading.Event().wait(0.01)
        with pytest.raises(passwords.Busy):
            passwords.make(PASSWORD)
    for _ in threads:
        assert in_turn.acquire(timeout=30)
    for thread in threads:
        thread.join(30)


@pytest.mark.django_db
@pytest.mark.parametrize("email", ["alice@people.example.com", "nobody@people.example.com", "no address"])
def test_without_a_turn_nobody_is_let_in_and_nobody_is_told_apart(alice, all_turns_taken, email):
    with pytest.raises(operations.Busy):
        operations.log_in(email=email, password=PASSWORD)
    assert not AccessToken.objects.exists()


@pytest.mark.django_db
@pytest.mark.usefixtures("all_turns_taken")
def test_without_a_turn_nobody_is_registered():
    with pytest.raises(operations.Busy):
        operations.register_user(email="new@people.example.com", password=PASSWORD)
    assert not User.objects.exists()


@pytest.mark.usefixtures("all_turns_taken")
def test_a_turn_that_did_not_come_leaves_its_place_in_the_line():
    free = passwords._line._value
    with pytest.raises(passwords.Busy):
        passwords.make(PASSWORD)
    assert passwords._line._value == free


def test_a_hash_that_fails_gives_its_turn_back(monkeypatch):
    def fall(*_):
        raise RuntimeError

    with monkeypatch.context() as broken:
        broken.setattr(hashers.MD5PasswordHasher, "encode", fall)
        for _ in range(passwords.AT_ONCE + passwords.MOST_WAITING + 1):
            with pytest.raises(RuntimeError):
                passwords.make(PASSWORD)
    assert passwords.make(PASSWORD)
