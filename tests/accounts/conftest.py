"""The people of these tests: Alice owns an account, Bob is a Normal user of it, Charlie a stranger.

All three registered by themselves.
"""

import pytest

from accounts import operations
from accounts.models import Account, Destination, User

PASSWORD = "correct horse battery staple"


@pytest.fixture(autouse=True)
def quick_hashes(settings):
    """Argon2 takes 50 ms by design; what these tests ask of it is the same with a quick one."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(autouse=True)
def open_loopback(settings):
    settings.DESTINATION_ALLOW = ["127.0.0.0/8"]


def register(name: str) -> User:
    return operations.register_user(email=f"{name}@people.example.com", password=PASSWORD)


def add_destination(actor: User, account: Account, **fields) -> Destination:
    values = {"url": "https://hooks.example.com/in", "http_method": "POST", "headers": {}} | fields
    return operations.create_destination(actor=actor, account_id=account.pk, **values).destination


@pytest.fixture
def alice(db) -> User:
    return register("alice")


@pytest.fixture
def bob(db) -> User:
    return register("bob")


@pytest.fixture
def charlie(db) -> User:
    return register("charlie")


@pytest.fixture
def account(alice, bob) -> Account:
    made = operations.create_account(actor=alice, name="Orders").account
    operations.add_member(actor=alice, account_id=made.pk, email=bob.email, role="Normal user")
    return made


@pytest.fixture
def destination(alice, account) -> Destination:
    return add_destination(alice, account, headers={"Authorization": "Bearer s3cret", "X-Team": "blue"})
