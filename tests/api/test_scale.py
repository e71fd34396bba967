"""A list costs the same however much there is beside its page: in blocks that are read, and in time.

The same questions are asked of a log of 10,000 rows and of one of SCALE (a million; `make scale`: ten
million), of which one account has nine tenths. All other tables grow to a twentieth of that. The costs are
PostgreSQL's own, and show that no table is read as a whole.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from django.db import connection, transaction
from pytest_django.plugin import DjangoDbBlocker
from rich.console import Console
from rich.table import Table

from accounts.models import Account, Destination
from api import moments, pagination
from bench import written
from bench.written import destination
from tests import databases
from tests.api.conftest import Person, add_destination, person

SMALL = 10_000
LARGE = int(os.environ.get("SCALE") or 1_000_000)
MOST_BLOCKS = 2_500  # of 8 KiB, by all statements of a request; the deepest indexes have five levels
RATIO = 3.0
NOISE_MS = 5.0  # times below it are not told apart
BIG = "relname ~ '^(delivery_log_v|accounts_(account|destination|member|user)$)'"

PEOPLE = """
INSERT INTO accounts_user
SELECT (jsonb_populate_record(u, jsonb_build_object(
           'id', md5('user ' || i)::uuid, 'email', 'user' || i || '@people.example.com'))).*
  FROM accounts_user u, generate_series(%(first)s, %(last)s) i WHERE u.id = %(user)s;
INSERT INTO accounts_account
SELECT (jsonb_populate_record(a, jsonb_build_object(
           'id', md5('account ' || i)::uuid, 'name', 'Account ' || i))).*
  FROM accounts_account a, generate_series(%(first)s, %(last)s) i WHERE a.id = %(account)s;
INSERT INTO accounts_member
SELECT (jsonb_populate_record(m, jsonb_build_object(
           'id', md5('member ' || i)::uuid, 'account_id', md5('account ' || i)::uuid,
           'user_id', md5('user ' || i)::uuid))).*
  FROM accounts_member m, generate_series(%(first)s, %(last)s) i
 WHERE (m.account_id, m.user_id) = (%(account)s, %(user)s);
INSERT INTO accounts_destination
SELECT (jsonb_populate_record(d, jsonb_build_object(
           'id', md5('somewhere ' || i)::uuid, 'account_id', md5('account ' || i)::uuid))).*
  FROM accounts_destination d, generate_series(%(first)s, %(last)s) i WHERE d.id = %(destination)s;
"""
# Sixty accounts are hers, and sixty people are in the one with the log.
HERS = """
INSERT INTO accounts_member
SELECT (jsonb_populate_record(m, jsonb_build_object(
           'id', md5('hers ' || i)::uuid, 'account_id', md5('account ' || i)::uuid))).*
  FROM accounts_member m, generate_series(1, 60) i WHERE (m.account_id, m.user_id) = (%(account)s, %(user)s);
INSERT INTO accounts_member
SELECT (jsonb_populate_record(m, jsonb_build_object(
           'id', md5('theirs ' || i)::uuid, 'user_id', md5('user ' || i)::uuid, 'role_id', 2))).*
  FROM accounts_member m, generate_series(1, 60) i WHERE (m.account_id, m.user_id) = (%(account)s, %(user)s);
"""


@dataclass(frozen=True)
class Cost:
    blocks: int
    ms: float
    scanned: list[str]
    found: int


@dataclass(frozen=True)
class Scene:
    """Alice with her account, and the owner of the tables."""

    owner: Any
    alice: Person
    account: Account
    ids: dict[str, Any]

    def fill(self, version: int, count: int, *, before: int) -> None:
        written.log(self.owner, version=version, account=self.account.pk, count=count)
        cursor = databases.psycopg.ClientCursor(self.owner)
        cursor.execute(PEOPLE, {**self.ids, "first": before // 20 + 1, "last": count // 20})
        for table in ("user", "account", "member", "destination"):
            self.owner.execute(f"ANALYZE accounts_{table}")
        written.show(self.owner, version=version)

    def cost(self, path: str, parameters: dict[str, Any]) -> Cost:
        """What the statements of a request cost, each at its best of three."""
        statements: list[tuple[str, Any]] = []

        def note(execute: Any, statement: str, values: Any, many: bool, context: Any) -> Any:
            if statement.lstrip().startswith("SELECT"):
                statements.append((statement, values))
            return execute(statement, values, many, context)

        with transaction.atomic():
            before = scans()
            with connection.execute_wrapper(note):
                reply = self.alice.get(path, **parameters)
            after = scans()
        assert reply.status_code == 200, reply.content
        plans = [min((explain(*one) for _ in range(3)), key=lambda plan: plan["ms"]) for one in statements]
        return Cost(
            blocks=sum(plan["blocks"] for plan in plans),
            ms=sum(plan["ms"] for plan in plans),
            scanned=[table for table, number in after.items() if number > before.get(table, 0)],
            found=len(reply.json()["results"]),
        )


def scans() -> dict[str, int]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT relname, seq_scan FROM pg_stat_xact_user_tables WHERE {BIG} AND seq_scan > 0")
        return dict(cursor.fetchall())


def explain(statement: str, values: Any) -> dict[str, Any]:
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {statement}", values)
        ((found,),) = cursor.fetchall()
    plan = found[0]
    blocks = plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"]
    return {"blocks": blocks, "ms": plan["Execution Time"]}


def logs(count: int) -> dict[str, dict[str, Any]]:
    """Questions about a log with so many rows; spans of time are counted in rows."""

    def at(row: float) -> str:
        return moments.as_text(written.received_at(row, of=count))

    half = count // 2 + 1
    deep = pagination.Cursor("-received_timestamp", False, at(count / 10), str(UUID(int=0))).encode()
    back = pagination.Cursor("-received_timestamp", True, at(count / 10), str(UUID(int=0))).encode()
    narrow = {"processed_timestamp_after": at(half), "processed_timestamp_before": at(half + 30)}
    wide = {"processed_timestamp_after": at(count / 10), "processed_timestamp_before": at(count / 2)}
    return {
        "the newest": {},
        "the oldest": {"ordering": "received_timestamp"},
        "a page from the depth": {"cursor": deep},
        "a page from the depth, backwards": {"cursor": back},
        "a large page": {"page_size": 100},
        "pending": {"status": "pending"},
        "failed": {"status": "failed"},
        "success": {"status": "success"},
        "pending, of a time without any": {"status": "pending", "received_timestamp_before": at(half)},
        "failed, from the depth": {"status": "failed", "cursor": deep},
        "a destination": {"destination_id": destination(0)},
        "a destination with few": {"destination_id": destination(99)},
        "a destination without any": {"destination_id": UUID(int=7)},
        "what failed at a destination": {"destination_id": destination(1), "status": "failed"},
        "what never succeeds at a destination": {"destination_id": destination(98), "status": "success"},
        "an event": {"event_id": f"order-{half}"},
        "an event that there is not": {"event_id": "nothing"},
        "a delivery that there is not": {"id": UUID(int=7)},
        "received in a span": {
            "received_timestamp_after": at(half),
            "received_timestamp_before": at(half + 99),
        },
        "received at a moment": {"received_timestamp": at(half)},
        "processed in a narrow span": narrow,
        "processed in a wide span": wide,
        "processed at a moment": {"processed_timestamp": at(half)},
        "processed since long": {"processed_timestamp_after": at(1)},
        "processed until long ago": {"processed_timestamp_before": at(count / 50)},
        "failed in a narrow span": {**narrow, "status": "failed"},
        "failed in a wide span": {**wide, "status": "failed"},
        "a destination with few in a narrow span": {**narrow, "destination_id": destination(99)},
        "search, rare": {"search": "refund-"},
        "search, common": {"search": "order-"},
        "search, none": {"search": "nothing"},
        "search, one": {"search": f"order-{half}"},
        "search, a URL": {"search": "hooks99."},
        "search, all URLs": {"search": "example.com"},
        "search, common, failed": {"search": "order-", "status": "failed"},
        "search, common, at a destination": {"search": "order-", "destination_id": destination(3)},
        "search, rare, in a wide span": {"search": "refund-", **wide},
        "search, common, in a narrow span": {"search": "order-", **narrow},
        "search, old, from the depth": {"search": "legacy-", "cursor": deep},
    }


def far(count: int) -> dict[str, dict[str, Any]]:
    """Many rows fit, and none is near where the page begins: a tenth of the log fits, or lies in between."""
    deep = logs(count)["a page from the depth"]
    return {
        "search, all of them old": {"search": "legacy-"},
        "search, all of them newer": {"search": "order-", **deep},
    }


LATELY = {"created_at_after": "2020-01-01T00:00:00Z"}
KEPT: dict[str, dict[str, Any]] = {
    "all": {},
    "made lately": LATELY,
    "changed long ago": {"updated_at_before": "2020-01-01T00:00:00Z", "ordering": "-updated_at"},
    "by an id": {"id": UUID(int=7)},
    "by somebody": {"created_by": UUID(int=7)},
    "changed by somebody": {"updated_by": UUID(int=7)},
    "search": {"search": "example"},
}
OTHERS: dict[str, dict[str, dict[str, Any]]] = {
    "/accounts/": KEPT
    | {
        "by name": {"ordering": "name"},
        "a name": {"name": "Account 7"},
        "a website": {"website": "https://example.com", **LATELY},
    },
    "/accounts/{}/destinations/": KEPT
    | {
        "by URL": {"ordering": "-url"},
        "a URL": {"url": "https://hooks1.example.com/in"},
        "a method": {"http_method": "POST", "active": "true", "paused": "false"},
    },
    "/accounts/{}/members/": KEPT
    | {
        "by e-mail": {"ordering": "email"},
        "an e-mail": {"email": "user7@people.example.com"},
        "a role": {"role": "Normal user", **LATELY},
    },
}


@pytest.fixture(scope="module")
def scene(template: databases.Template, django_db_blocker: DjangoDbBlocker) -> Iterator[Scene]:
    with django_db_blocker.unblock(), databases.copy(template, "scale") as database:
        alice = person("alice")
        made = alice.post("/accounts/", {"name": "Orders"}).json()["data"]
        account = Account.objects.get(pk=made["id"])
        first = add_destination(alice, account)
        template_of = {field.attname: getattr(first, field.attname) for field in Destination._meta.fields}
        Destination.objects.bulk_create(
            Destination(**template_of | {"id": destination(n), "url": f"https://hooks{n}.example.com/in"})
            for n in (*range(30), 98, 99)
        )
        owner = database.connect_owner()
        for table in ("user", "account", "member", "destination"):
            owner.execute(f"ALTER TABLE accounts_{table} DISABLE TRIGGER USER")
        ids = {"account": account.pk, "user": alice.user.pk, "destination": first.pk}
        yield Scene(owner, alice, account, ids)


@pytest.fixture(scope="module")
def costs(scene: Scene) -> dict[str, tuple[Cost, Cost]]:
    """Every question's cost at both sizes."""
    scene.fill(2, SMALL, before=0)
    databases.psycopg.ClientCursor(scene.owner).execute(HERS, scene.ids)
    small = ask(scene, SMALL)
    scene.fill(3, LARGE, before=SMALL)
    large = ask(scene, LARGE)
    costs = {name: (small[name], large[name]) for name in small}
    if os.environ.get("SCALE"):
        show(costs)
    return costs


def ask(scene: Scene, count: int) -> dict[str, Cost]:
    path = f"/accounts/{scene.account.pk}/logs/"
    questions = logs(count) | far(count)
    found = {name: scene.cost(path, parameters) for name, parameters in questions.items()}
    for pattern, kinds in OTHERS.items():
        path = pattern.format(scene.account.pk)
        found |= {pattern + name: scene.cost(path, parameters) for name, parameters in kinds.items()}
    return found


def show(costs: dict[str, tuple[Cost, Cost]]) -> None:
    table = Table(
        "question", *(f"{size:,}: {what}" for size in (SMALL, LARGE) for what in ("rows", "blocks", "ms"))
    )
    for name, pair in costs.items():
        cells = [cell for one in pair for cell in (f"{one.found}", f"{one.blocks:,}", f"{one.ms:.2f}")]
        table.add_row(name, *cells)
    Console(width=130).print(table)


QUESTIONS = [*logs(SMALL), *(pattern + name for pattern, kinds in OTHERS.items() for name in kinds)]


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("question", QUESTIONS)
def test_a_list_costs_the_same_in_a_large_table(costs, question):
    small, large = costs[question]
    assert large.scanned == []
    assert large.blocks < MOST_BLOCKS
    assert large.ms < RATIO * max(small.ms, NOISE_MS)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("question", far(SMALL))
def test_what_is_far_away_costs_the_way_or_what_fits_and_not_what_there_is(costs, question):
    _, large = costs[question]
    assert large.scanned == []
    assert large.blocks < MOST_BLOCKS + LARGE / 2


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_questions_find_what_they_are_about(costs):
    """An empty page is quick everywhere: most of these are full."""
    full = [name for name in QUESTIONS if costs[name][1].found >= 20]
    assert len(full) >= 30
