"""Who may do what? One table: every route, every method, every kind of caller, every kind of id.

`make roles` prints it. A route or a method without a row fails, and so does a row without a route.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
from django.db import transaction
from django.urls import get_resolver
from rest_framework.test import APIClient

from accounts import operations
from accounts.models import Account, Member
from tests.api.conftest import PASSWORD, Person, add_destination, person
from tests.api.test_redeliver import end, sampled

pytestmark = pytest.mark.slow

METHODS = ("get", "head", "post", "put", "patch", "delete", "options")
CALLERS = ("anonymous", "stranger", "normal", "admin", "removed", "ingest")
"""Nobody; an Admin of another account; a Normal user and the Admin of this one; who was a Normal user of it;
who sends the account's ingest token as a bearer. The Normal user and the removed one never registered."""
KINDS = ("own", "foreign", "missing", "malformed")
MISSING = "0199aaaa-0000-7000-8000-000000000000"
MALFORMED = "12"


class Row(NamedTuple):
    """What each caller is answered where the ids are those of the account; `content` is what is sent."""

    anonymous: int
    stranger: int
    normal: int
    admin: int
    removed: int
    ingest: int
    content: Any = None


def everybody(status: int, content: Any = None) -> Row:
    return Row(*[status] * len(CALLERS), content)


def logged_in(status: int, content: Any = None) -> Row:
    return Row(401, status, status, status, status, 401, content)


def member(normal: int, admin: int, content: Any = None) -> Row:
    return Row(401, 404, normal, admin, 404, 401, content)


ACCOUNT = "accounts/<str:account_id>/"
DESTINATION = f"{ACCOUNT}destinations/<str:destination_id>/"
MEMBER = f"{ACCOUNT}members/<str:member_id>/"
LOG = f"{ACCOUNT}logs/<str:log_id>/"
NEW_DESTINATION = {"url": "https://hooks.example.com/", "http_method": "POST", "headers": {}}

ROWS: dict[tuple[str, str], Row] = {
    ("auth/register/", "post"): everybody(201, {"email": "new@people.example.com", "password": PASSWORD}),
    ("auth/login/", "post"): everybody(200, {"email": "admin@people.example.com", "password": PASSWORD}),
    ("auth/invitations/accept/", "post"): everybody(400, {"token": "unknown", "password": PASSWORD}),
    ("auth/logout/", "post"): logged_in(200),
    ("auth/me/", "get"): logged_in(200),
    ("auth/password/", "post"): logged_in(
        200, {"current_password": PASSWORD, "new_password": PASSWORD + " 2"}
    ),
    ("accounts/", "get"): logged_in(200),
    # Whoever registered, and who is Admin of some account.
    ("accounts/", "post"): Row(401, 201, 403, 201, 403, 401, {"name": "New"}),
    (ACCOUNT, "get"): member(200, 200),
    (ACCOUNT, "put"): member(200, 200, {"name": "Changed"}),
    (ACCOUNT, "patch"): member(200, 200, {"name": "Changed"}),
    (ACCOUNT, "delete"): member(403, 200),
    (f"{ACCOUNT}token/rotate/", "post"): member(403, 201, {}),
    (f"{ACCOUNT}destinations/", "get"): member(200, 200),
    (f"{ACCOUNT}destinations/", "post"): member(403, 201, NEW_DESTINATION),
    (DESTINATION, "get"): member(200, 200),
    (DESTINATION, "put"): member(200, 200, NEW_DESTINATION),
    (DESTINATION, "patch"): member(200, 200, {"active": False}),
    (DESTINATION, "delete"): member(403, 200),
    (f"{DESTINATION}pause/", "post"): member(200, 200),
    (f"{DESTINATION}resume/", "post"): member(200, 200),
    (f"{DESTINATION}test/", "post"): member(403, 201),
    (f"{DESTINATION}signing-secret/rotate/", "post"): member(403, 201, {}),
    (f"{ACCOUNT}members/", "get"): member(200, 200),
    (f"{ACCOUNT}members/", "post"): member(403, 201, {"email": "new@people.example.com", "role": "Admin"}),
    (MEMBER, "get"): member(200, 200),
    (MEMBER, "put"): member(403, 200, {"role": "Admin"}),
    (MEMBER, "patch"): member(403, 200, {"role_id": 1}),
    (MEMBER, "delete"): member(403, 200),
    (f"{ACCOUNT}logs/", "get"): member(200, 200),
    (LOG, "get"): member(200, 200),
    (f"{LOG}redeliver/", "post"): member(403, 200),
    (f"{ACCOUNT}events/", "get"): member(200, 200),
}
PUBLIC = {"": 302, "api/schema/": 200, "api/docs/": 200, "api/redoc/": 200}


def routes() -> dict[str, set[str]]:
    """Each route of the API, with its methods, as the router made them."""
    return {
        str(pattern.pattern): set(pattern.callback.actions) - {"head"}
        for pattern in get_resolver("api.urls").url_patterns
    }


@dataclass(frozen=True)
class Cell:
    """One question, and the status of its answer. `ids`: the kind of each id of the route."""

    route: str
    method: str
    caller: str
    ids: tuple[str, ...]
    status: int
    content: Any = field(compare=False, default=None)

    def __str__(self) -> str:
        return f"{self.method.upper()} {self.route} {'/'.join(self.ids)} by {self.caller}"


def cells(route: str) -> Iterator[Cell]:
    names = re.findall("<str:", route)
    own = ("own",) * len(names)
    for method in METHODS:
        row = ROWS.get((route, "get" if method == "head" else method))
        if row is None:
            public = any(ROWS[route, one].anonymous < 400 for one in METHODS if (route, one) in ROWS)
            row = everybody(405) if public or route == "auth/invitations/accept/" else logged_in(405)
            kinds = [own]
        else:
            kinds = [
                own,
                *((*own[:place], kind, *own[place + 1 :]) for place in range(len(own)) for kind in KINDS[1:]),
            ]
        for caller in CALLERS:
            for ids in kinds:
                yield Cell(route, method, caller, ids, _expected(getattr(row, caller), ids), row.content)


def _expected(where_it_is_ours: int, ids: tuple[str, ...]) -> int:
    """Who may not come in, or may not do it, is told that; nobody learns what there is elsewhere."""
    others = [place for place, kind in enumerate(ids) if kind != "own"]
    if not others or where_it_is_ours in {401, 404}:
        return where_it_is_ours
    forbidden = where_it_is_ours == 403 and others != [0] and ids[others[0]] != "malformed"
    return 403 if forbidden else 404


def all_cells() -> list[Cell]:
    return [cell for route in routes() for cell in cells(route)]


# --- the world ----------------------------------------------------------------------------------------------


def invited(admin: Person, account: Account, name: str) -> Person:
    """A Normal user who never registered."""
    email = f"{name}@people.example.com"
    user = operations.add_member(
        actor=admin.user, account_id=account.pk, email=email, role="Normal user"
    ).user
    user.set_password(PASSWORD)
    user.save(actor=user)
    return Person(user, operations.log_in(email=email, password=PASSWORD).access_token)


class World:
    """The account that the table is about, another one, and everybody who asks."""

    def __init__(self) -> None:
        admin, stranger, other = person("admin"), person("stranger"), person("other")
        made = operations.create_account(actor=admin.user, name="Ours")
        foreign = operations.create_account(actor=other.user, name="Theirs").account
        operations.create_account(actor=stranger.user, name="The stranger's")
        self.account = made.account
        normal, removed = (invited(admin, made.account, name) for name in ("normal", "removed"))
        leaving = Member.objects.get(account=made.account, user=removed.user)
        operations.remove_member(actor=admin.user, account_id=made.account.pk, member_id=leaving.pk)
        self.people = {"admin": admin, "normal": normal, "removed": removed, "stranger": stranger}
        self.tokens = {name: one.token for name, one in self.people.items()}
        self.tokens["ingest"] = made.app_secret_token
        self.ids = {"own": _things(admin, made.account, normal), "foreign": _things(other, foreign, other)}

    def ask(self, cell: Cell) -> Any:
        client = APIClient(raise_request_exception=False)
        if cell.caller in self.tokens:
            client.credentials(HTTP_AUTHORIZATION=f"Bearer {self.tokens[cell.caller]}")
        before = transaction.savepoint_create()  # no `atomic`: a durable block must not be nested
        reply = getattr(client, cell.method)(self.path(cell), cell.content, format="json")
        transaction.savepoint_rollback(before)
        return reply

    def path(self, cell: Cell) -> str:
        kinds = iter(cell.ids)
        return "/api/v1/" + re.sub(r"<str:(\w+)>", lambda name: self._id(name[1], next(kinds)), cell.route)

    def _id(self, name: str, kind: str) -> str:
        return {"missing": MISSING, "malformed": MALFORMED}.get(kind) or self.ids[kind][name]


def _things(admin: Person, account: Account, one: Person) -> dict[str, str]:
    destination = add_destination(admin, account)
    failed = sampled(admin, destination)
    end(failed, account)
    found = Member.objects.get(account=account, user=one.user)
    return {
        "account_id": str(account.pk),
        "destination_id": str(destination.pk),
        "member_id": str(found.pk),
        "log_id": str(failed.delivery_id),
    }


@pytest.fixture
def world(db) -> World:
    return World()


# --- the table ----------------------------------------------------------------------------------------------

TOLD: dict[str, Counter[str]] = {}


@pytest.fixture(scope="module", autouse=True)
def shown() -> Iterator[None]:
    """After the last test: the table's own ids, and how many questions were asked. (`-s` shows it.)"""
    yield
    if TOLD.keys() == routes().keys():
        print("\n\n" + as_text())  # noqa: T201 - `make roles` shows it


def as_text() -> str:
    head = f"{'':6} {'':86} " + " ".join(f"{caller:9}" for caller in CALLERS)
    rows = [
        f"{method.upper():6} {route:86} " + " ".join(f"{getattr(row, caller):<9}" for caller in CALLERS)
        for (route, method), row in ROWS.items()
    ]
    told = sum(TOLD.values(), Counter())
    size = f"{len(ROWS)} rows on {len(TOLD)} routes: {told.total()} cells"
    return "\n".join([head, *rows, f"{size}, {told['right']} right, {told['wrong']} wrong"])


def test_every_route_and_method_has_a_row_and_every_row_a_route():
    assert {(route, method) for route, methods in routes().items() for method in methods} == set(ROWS)


def test_the_table_is_as_large_as_the_api_is():
    found = all_cells()
    assert len(found) == len(set(found)) > 1700
    assert {cell.caller for cell in found} == set(CALLERS)
    assert {kind for cell in found for kind in cell.ids} == set(KINDS)
    assert {cell.status for cell in found} == {200, 201, 400, 401, 403, 404, 405}


@pytest.mark.parametrize("route", routes(), ids=list(routes()))
def test_everybody_is_answered_as_the_table_says(world, route):
    wrong = []
    for cell in cells(route):
        reply = world.ask(cell)
        if reply.status_code != cell.status or not _is_in_json(cell, reply):
            wrong.append(f"{cell}: {reply.status_code} for {cell.status}")
    TOLD[route] = Counter(wrong=len(wrong), right=len(list(cells(route))) - len(wrong))
    assert wrong == []


def _is_in_json(cell: Cell, reply: Any) -> bool:
    kind = "application/problem+json" if cell.status >= 400 else "application/json"
    return reply["Content-Type"] == kind


def test_a_stranger_can_not_tell_what_there_is_from_what_there_is_not(world):
    def told(ids: tuple[str, str]) -> dict:
        problem = world.ask(Cell(DESTINATION, "get", "stranger", ids, 404)).json()
        return {**problem, "instance": ""}

    assert told(("own", "own")) == told(("missing", "missing")) == told(("malformed", "own"))


def test_what_is_not_of_the_api_is_public_or_nothing(db):
    beside = {str(one.pattern) for one in get_resolver("config.urls").url_patterns} - {"api/v1/"}
    assert beside == set(PUBLIC)
    for path, status in PUBLIC.items():
        assert APIClient().get("/" + path).status_code == status


# --- a role counts from the moment that it changes, whatever the token says ---------------------------------


def rename(world: World, name: str) -> int:
    return world.people[name].patch(f"/accounts/{world.account.pk}/", {"name": "x"}).status_code


def rotate(world: World, name: str) -> int:
    return world.people[name].post(f"/accounts/{world.account.pk}/token/rotate/", {}).status_code


def give(world: World, name: str, role: str) -> None:
    found = Member.objects.get(account=world.account, user=world.people[name].user)
    operations.update_member(
        actor=world.people["admin"].user, account_id=world.account.pk, member_id=found.pk, role=role
    )


def test_who_is_promoted_and_demoted_may_more_and_less_at_once(world):
    assert rotate(world, "normal") == 403
    give(world, "normal", "Admin")
    assert rotate(world, "normal") == 201
    give(world, "normal", "Normal user")
    assert rotate(world, "normal") == 403


def test_an_admin_who_is_demoted_by_another_is_none_at_once(world):
    give(world, "normal", "Admin")
    found = Member.objects.get(account=world.account, user=world.people["admin"].user)
    reply = world.people["normal"].patch(
        f"/accounts/{world.account.pk}/members/{found.pk}/", {"role": "Normal user"}
    )
    assert reply.status_code == 200
    assert (rotate(world, "admin"), rename(world, "admin")) == (403, 200)


def test_who_comes_back_may_again(world):
    assert rename(world, "removed") == 404
    email = world.people["removed"].user.email
    world.people["admin"].post(f"/accounts/{world.account.pk}/members/", {"email": email, "role": "Admin"})
    assert (rename(world, "removed"), rotate(world, "removed")) == (200, 201)


def test_a_deleted_account_is_nobodys_at_once(world):
    world.people["admin"].delete(f"/accounts/{world.account.pk}/")
    assert [rename(world, name) for name in ("admin", "normal")] == [404, 404]


def test_who_is_shut_out_is_nobody_at_once(world):
    operations.deactivate_user(email=world.people["admin"].user.email)
    assert rename(world, "admin") == 401
