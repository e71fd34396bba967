"""A list takes as many queries for 50 rows as for one; to read or write one thing takes a few."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts import operations
from accounts.models import Account, Destination, Member, User
from tests.api.conftest import Person, add_destination, person
from tests.api.test_logs import add_log
from tests.databases import Database
from tests.eventstore import stores

pytestmark = pytest.mark.slow

ROWS = 50


def queries(work: Callable[[], Any]) -> tuple[int, Any]:
    with CaptureQueriesContext(connection) as captured:
        reply = work()
    assert reply.status_code in {200, 201}, reply.content
    return len(captured), reply.json()


@pytest.fixture
def crowd(database: Database) -> tuple[Person, Account]:
    """Alice alone with one of everything, for real: events are sealed by others than who appends them."""
    alice = person("alice")
    account = operations.create_account(actor=alice.user, name="Orders").account
    add_destination(alice, account)
    add_log(account)
    return alice, account


def add_accounts(alice: Person, _account: Account) -> None:
    for number in range(ROWS - 1):
        operations.create_account(actor=alice.user, name=f"Account {number}")


def add_destinations(alice: Person, account: Account) -> None:
    for number in range(ROWS - 1):
        add_destination(alice, account, url=f"https://hooks{number}.example.com/in")


def add_members(alice: Person, account: Account) -> None:
    own = {"created_by": alice.user, "updated_by": alice.user}
    people = [
        User(email=f"user{number}@people.example.com", password="!", **own) for number in range(ROWS - 1)
    ]
    User.objects.bulk_create(people)
    Member.objects.bulk_create(Member(account=account, user=one, role_id=2, **own) for one in people)


def add_logs(_alice: Person, account: Account) -> None:
    for _ in range(ROWS - 1):
        add_log(account)


def add_events(_alice: Person, account: Account, *, count: int = ROWS - 1) -> None:
    with connection.cursor() as cursor:
        stores.append(cursor, count=count, account=account.pk)
        while stores.seal(cursor):
            pass


LISTS: dict[str, Callable[..., None]] = {
    "/accounts/": add_accounts,
    "/accounts/{}/destinations/": add_destinations,
    "/accounts/{}/members/": add_members,
    "/accounts/{}/logs/": add_logs,
    "/accounts/{}/logs/?search=order": add_logs,
    "/accounts/{}/events/": add_events,
}


@pytest.mark.parametrize(("path", "add"), LISTS.items(), ids=LISTS.keys())
def test_a_list_takes_as_many_queries_for_50_rows_as_for_one(crowd, path, add):
    alice, account = crowd
    path = path.format(account.pk)
    if add is add_events:
        add_events(alice, account, count=0)  # what has happened so far is sealed
    one, reply = queries(lambda: alice.get(path))
    few = len(reply["results"])
    add(alice, account)
    # Another text: the destinations that the first one found are cached.
    many, reply = queries(lambda: alice.get(path.replace("=order", "=orde")))
    assert few < 10
    assert len(reply["results"]) == 50
    assert one == many <= 6


# How many at most, with what is sent: who asks, their role, locks and savepoints included.
ONE: list[tuple[str, str, dict[str, Any], int]] = [
    ("get", "/accounts/{account}/", {}, 3),
    ("get", "/accounts/{account}/destinations/{destination}/", {}, 4),
    ("get", "/accounts/{account}/members/{member}/", {}, 4),
    ("get", "/accounts/{account}/logs/{log}/", {}, 6),
    ("post", "/accounts/", {"name": "Another"}, 20),
    ("patch", "/accounts/{account}/", {"name": "Another"}, 15),
    ("post", "/accounts/{account}/token/rotate/", {}, 20),
    (
        "post",
        "/accounts/{account}/destinations/",
        {"url": "https://a.example.com", "http_method": "GET", "headers": {}},
        20,
    ),
    ("patch", "/accounts/{account}/destinations/{destination}/", {"active": False}, 20),
    ("post", "/accounts/{account}/destinations/{destination}/pause/", {}, 20),
]


@pytest.mark.parametrize(("method", "path", "content", "most"), ONE)
def test_one_thing_takes_a_few_queries_whatever_there_is_beside_it(crowd, method, path, content, most):
    alice, account = crowd
    ids = {
        "account": account.pk,
        "destination": Destination.objects.get(account=account).pk,
        "member": Member.objects.get(account=account).pk,
        "log": add_log(account).delivery_id,
    }
    path = path.format(**ids)
    before, _ = queries(
        lambda: getattr(alice, method)(path, *([content] if content or method != "get" else []))
    )
    for add in (add_destinations, add_members, add_logs):
        add(alice, account)
    after, _ = queries(
        lambda: getattr(alice, method)(path, *([content] if content or method != "get" else []))
    )
    assert after <= before
    assert after <= most
