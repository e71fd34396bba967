"""The people of these tests: Alice owns an account, Bob is a Normal user of it, Charlie owns another one."""

from dataclasses import dataclass
from typing import Any

import pytest
from rest_framework.test import APIClient

from accounts import operations
from accounts.models import Account, Destination, User

PASSWORD = "correct horse battery staple"


@dataclass(frozen=True)
class Person:
    """Somebody who is logged in: `alice.get("/accounts/")`."""

    user: User
    token: str

    def get(self, path: str, **parameters: Any) -> Any:
        return self._client().get("/api/v1" + path, parameters)

    def post(self, path: str, content: Any = None) -> Any:
        return self._client().post("/api/v1" + path, content, format="json")

    def put(self, path: str, content: Any) -> Any:
        return self._client().put("/api/v1" + path, content, format="json")

    def patch(self, path: str, content: Any) -> Any:
        return self._client().patch("/api/v1" + path, content, format="json")

    def delete(self, path: str) -> Any:
        return self._client().delete("/api/v1" + path)

    def ask(self, method: str, path: str, content: Any = None, **headers: str) -> Any:
        """With headers: `If_Match='"1"'`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return getattr(self._client(), method)("/api/v1" + path, content, headers=named, format="json")

    def _client(self) -> APIClient:
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {self.token}")
        return client


@pytest.fixture(autouse=True)
def quick_hashes(settings):
    """Argon2 takes 50 ms by design; what these tests ask of it is the same with a quick one."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


def person(name: str) -> Person:
    email = f"{name}@people.example.com"
    operations.register_user(email=email, password=PASSWORD)
    logged_in = operations.log_in(email=email, password=PASSWORD)
    return Person(logged_in.user, logged_in.access_token)


@pytest.fixture
def alice(db) -> Person:
    return person("alice")


@pytest.fixture
def bob(db) -> Person:
    return person("bob")


@pytest.fixture
def charlie(db) -> Person:
    return person("charlie")


@pytest.fixture
def account(alice, bob) -> Account:
    made = operations.create_account(actor=alice.user, name="Orders").account
    operations.add_member(actor=alice.user, account_id=made.pk, email=bob.user.email, role="Normal user")
    return made


@pytest.fixture
def foreign(charlie) -> Account:
    return operations.create_account(actor=charlie.user, name="Charlie's").account


@pytest.fixture
def destination(alice, account) -> Destination:
    return add_destination(alice, account)


def add_destination(actor: Person, account: Account, **fields: Any) -> Destination:
    values = {"url": "https://hooks.example.com/in", "http_method": "POST", "headers": {}} | fields
    return operations.create_destination(actor=actor.user, account_id=account.pk, **values).destination
