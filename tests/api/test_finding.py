"""Whatever is asked of a list, in whatever pages: the answer is what a filter in Python leaves of it."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db.models import Model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.models import Account, Destination, Member, User
from accounts.roles import IDS, RoleName
from api import moments
from delivery import finding
from delivery.models import DeliveryLog
from tests.api.conftest import Person, add_destination

pytestmark = pytest.mark.slow

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
MOST_PAGES = 100
QUESTIONS = 5  # about the same rows
ids = st.uuids(version=4)
# Few of each, so that rows share them, and filters meet them.
instants = st.integers(0, 4).map(lambda second: NOON + timedelta(seconds=second))
statuses = st.sampled_from(["pending", "success", "failed"])
event_ids = st.sampled_from(["a", "aa", "a%", "b", "A", "b~", "~"])
# Rows to be read before another way is tried: as in production, and so few that every way is taken.
budgets = st.sampled_from([1, 2, 4, 1_000])

type Parameters = dict[str, Any]
type Keeps = Callable[[Any, Any], bool]


def quick(examples: int) -> Callable[..., Any]:
    return settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


def pages(person: Person, path: str, parameters: Parameters) -> Iterator[dict[str, Any]]:
    """Page after page to the end."""
    page = person.get(path, **parameters)
    for _ in range(MOST_PAGES):
        assert page.status_code == 200, page.content
        yield page.json()
        if page.json()["next"] is None:
            return
        page = person._client().get(page.json()["next"])
    raise AssertionError("the pages don't come to an end")


def pages_back(person: Person, page: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for _ in range(MOST_PAGES):
        yield page
        if page["previous"] is None:
            return
        page = person._client().get(page["previous"]).json()
    raise AssertionError("the pages don't come to a beginning")


def ids_of(found: list[dict[str, Any]]) -> list[str]:
    return [row["id"] for page in found for row in page["results"]]


def check(person: Person, path: str, parameters: Parameters, expected: list[UUID]) -> None:
    """Forth and back, each row comes once, in order; and no page but the last is short."""
    forth = list(pages(person, path, parameters))
    assert ids_of(forth) == [str(one) for one in expected]
    assert all(len(page["results"]) == parameters["page_size"] for page in forth[:-1])
    assert forth[0]["previous"] is None
    back = list(pages_back(person, forth[-1]))
    assert ids_of(back[::-1]) == ids_of(forth)
    assert back[0] == forth[-1]


def fits(row: Any, parameters: Parameters, filters: dict[str, Keeps]) -> bool:
    return all(keeps(row, parameters[name]) for name, keeps in filters.items() if name in parameters)


def in_order(rows: list[Any], parameters: Parameters, fields: dict[str, str], unique: str) -> list[UUID]:
    name = parameters["ordering"]
    field = fields[name.removeprefix("-")]
    ordered = sorted(rows, key=lambda row: (getattr(row, field), getattr(row, unique)))
    ordered = ordered[::-1] if name.startswith("-") else ordered
    return [getattr(row, unique) for row in ordered]


def asked(parameters: Parameters) -> Parameters:
    return {
        name: moments.as_text(value) if isinstance(value, datetime) else value
        for name, value in parameters.items()
    }


def span(field: str, name: str) -> dict[str, Keeps]:
    def value(row: Any) -> datetime | None:
        return getattr(row, field)

    return {
        name: lambda row, moment: value(row) == moment,
        f"{name}_after": lambda row, moment: value(row) is not None and value(row) >= moment,
        f"{name}_before": lambda row, moment: value(row) is not None and value(row) <= moment,
    }


def parameters_of(filters: dict[str, st.SearchStrategy[Any]], orderings: list[str]) -> Any:
    """Several times any few of the filters, an order, and a size of pages."""
    ways = [sign + name for name in orderings for sign in ("", "-")]
    always = {"ordering": st.sampled_from(ways), "page_size": st.sampled_from([3, 5, 9, 100])}
    chosen = st.lists(st.sampled_from(sorted(filters)), max_size=2, unique=True)
    one = chosen.flatmap(
        lambda names: st.fixed_dictionaries(always | {name: filters[name] for name in names})
    )
    return st.lists(one, min_size=QUESTIONS, max_size=QUESTIONS)


# --- logs ---------------------------------------------------------------------------------------------------

URLS = {"red": "https://red.example.com/a", "blue": "https://blue.example.com/ab"}


class Log:
    """What is searched: the destinations with their URLs, and rows of all kinds."""

    def __init__(self, person: Person, account: Account) -> None:
        self.account = account
        self.path = f"/accounts/{account.pk}/logs/"
        self.urls = {add_destination(person, account, url=url).pk: url for url in URLS.values()}
        self.destinations = [*self.urls, uuid4()]  # the third was deleted

    def fill(self, rows: list[tuple[Any, ...]]) -> list[DeliveryLog]:
        DeliveryLog.objects.filter(account_id=self.account.pk).delete()
        return DeliveryLog.objects.bulk_create([self.row(*row) for row in rows])

    def row(self, *drawn: Any) -> DeliveryLog:
        key, event, destination, received, took, status = drawn
        return DeliveryLog(
            version=1,
            account_id=self.account.pk,
            delivery_id=key,
            event_id=uuid4(),
            client_event_id=event,
            destination_id=self.destinations[destination],
            received_at=received,
            processed_at=None if took is None else received + timedelta(seconds=took),
            status=status,
            attempts=1,
            reason="",
            position=1,
        )

    def contains(self, row: DeliveryLog, text: str) -> bool:
        url = self.urls.get(row.destination_id, "")
        return row.client_event_id.startswith(text) or text.lower() in url.lower()

    @property
    def filters(self) -> dict[str, Keeps]:
        return {
            "event_id": lambda row, event: row.client_event_id == event,
            "destination_id": lambda row, number: row.destination_id == self.destinations[number],
            "status": lambda row, status: row.status == status,
            "search": self.contains,
            **span("received_at", "received_timestamp"),
            **span("processed_at", "processed_timestamp"),
        }

    def asked(self, parameters: Parameters) -> Parameters:
        named = dict(parameters)
        if "destination_id" in named:
            named["destination_id"] = self.destinations[named["destination_id"]]
        return asked(named)


log_rows = st.lists(
    st.tuples(
        ids,
        event_ids,
        st.integers(0, 2),
        instants,
        st.sampled_from([None, 0, 1, 3]),
        statuses,
    ),
    min_size=12,
    max_size=30,
    unique_by=lambda row: row[0],
)
LOG_ORDER = {"received_timestamp": "received_at"}
log_parameters = parameters_of(
    {
        "event_id": event_ids,
        "destination_id": st.integers(0, 2),
        "status": statuses,
        "search": st.sampled_from(
            ["a", "A", "aa", "b", "~", "%", "RED", "example", "blue.example.com/ab", "z"]
        ),
        **{
            f"{name}{end}": instants
            for name in ("received_timestamp", "processed_timestamp")
            for end in ("", "_after", "_before")
        },
    },
    list(LOG_ORDER),
)


@pytest.fixture
def log(alice: Person, account: Account) -> Log:
    return Log(alice, account)


def test_logs_are_those_that_fit(alice, log, monkeypatch):
    @quick(18)
    @given(rows=log_rows, questions=log_parameters, budget=budgets)
    def holds(rows: list[tuple[Any, ...]], questions: list[Parameters], budget: int) -> None:
        monkeypatch.setattr(finding, "BUDGET", budget)
        stored = log.fill(rows)
        for parameters in questions:
            fitting = [row for row in stored if fits(row, parameters, log.filters)]
            check(
                alice,
                log.path,
                log.asked(parameters),
                in_order(fitting, parameters, LOG_ORDER, "delivery_id"),
            )

    holds()


BUDGETS = [1, 2, 5, 12, 1_000]
MORE = [
    {},
    {"status": "failed"},
    {"destination_id": 1},
    {"destination_id": 2},
    {"processed_timestamp_before": NOON},
]


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("more", MORE, ids=lambda more: " ".join(more) or "alone")
def test_each_way_of_searching_finds_the_same(alice, log, monkeypatch, budget, more):
    monkeypatch.setattr(finding, "BUDGET", budget)
    events, took, ends = ("a", "ab", "blue", "b"), (0, 1, None), ("success", "failed", "pending")
    stored = log.fill(
        [
            (
                uuid4(),
                events[n % 4],
                n % 3,
                NOON + timedelta(seconds=n % 7),
                took[n % 5 % 3],
                ends[n % 11 % 3],
            )
            for n in range(40)
        ]
    )
    for text in ("a", "ab", "blue", "red", "b", "c"):
        parameters = {"search": text, "ordering": "-received_timestamp", "page_size": 8, **more}
        fitting = [row for row in stored if fits(row, parameters, log.filters)]
        check(alice, log.path, log.asked(parameters), in_order(fitting, parameters, LOG_ORDER, "delivery_id"))


def test_a_log_is_found_by_its_id_with_whatever_else_is_asked_for(alice, log):
    rows = [(uuid4(), "a", number % 3, NOON, 1, "failed") for number in range(5)]
    first, *_ = log.fill(rows)
    for more, expected in (
        ({}, 1),
        ({"status": "failed"}, 1),
        ({"status": "success"}, 0),
        ({"search": "b"}, 0),
    ):
        found = alice.get(log.path, id=first.delivery_id, **more).json()["results"]
        assert [row["id"] for row in found] == [str(first.delivery_id)] * expected


def test_logs_that_come_while_pages_are_read_move_no_others(alice, log, monkeypatch):
    @quick(9)
    @given(rows=log_rows, late=log_rows, questions=log_parameters, budget=budgets)
    def holds(rows: Any, late: Any, questions: list[Parameters], budget: int) -> None:
        parameters = questions[0]
        monkeypatch.setattr(finding, "BUDGET", budget)
        fitting = [row for row in log.fill(rows) if fits(row, parameters, log.filters)]
        known = {str(row.delivery_id) for row in fitting}
        coming = [row for row in late if str(row[0]) not in {str(one[0]) for one in rows}]
        seen = []
        for page in pages(alice, log.path, log.asked(parameters)):
            seen += [row["id"] for row in page["results"]]
            if coming:
                log.row(*coming.pop()).save(force_insert=True)
        expected = in_order(fitting, parameters, LOG_ORDER, "delivery_id")
        assert [one for one in seen if one in known] == [str(one) for one in expected]
        assert len(seen) == len(set(seen))

    holds()


# --- accounts, destinations, members ------------------------------------------------------------------------

names = st.text("ab ", min_size=1, max_size=3).filter(str.strip)
websites = st.sampled_from(["", "https://a.example.com", "https://b.example.com/a"])
KEPT: dict[str, st.SearchStrategy[Any]] = {
    f"{name}{end}": instants for name in ("created_at", "updated_at") for end in ("", "_after", "_before")
}
KEPT_FILTERS: dict[str, Keeps] = {
    "created_by": lambda row, user: row.created_by_id == user,
    "updated_by": lambda row, user: row.updated_by_id == user,
    **span("created_at", "created_at"),
    **span("updated_at", "updated_at"),
}
kept = st.tuples(ids, instants, instants)
KEPT_ORDER = {"created_at": "created_at", "updated_at": "updated_at"}


def put[Row: Model](model: type[Row], rows: list[Row]) -> list[Row]:
    return model._default_manager.bulk_create(rows)  # type: ignore[attr-defined]


def test_accounts_are_those_that_fit(alice, bob):
    def stored(rows: list[tuple[Any, ...]]) -> list[Account]:
        Member.objects.all().delete()
        Account.objects.all().delete()
        made = [
            Account(
                id=key,
                name=name,
                website=website,
                created_at=created,
                updated_at=updated,
                created_by=bob.user,
                updated_by=alice.user,
            )
            for (key, created, updated), name, website, _ in rows
        ]
        put(Account, made)
        seen = [account for account, row in zip(made, rows, strict=True) if row[3]]
        put(
            Member,
            [
                Member(account=one, user=alice.user, role_id=1, created_by=bob.user, updated_by=bob.user)
                for one in seen
            ],
        )
        return seen  # hers; the others are nobody's

    filters = KEPT_FILTERS | {
        "name": lambda row, text: row.name == text,
        "website": lambda row, text: row.website == text,
        "search": lambda row, text: text.lower() in row.name or text.lower() in row.website,
    }
    given_filters = KEPT | {
        "name": names,
        "website": websites.filter(bool),
        "search": st.sampled_from(["a", "AB", "example", "%", " "]),
        "created_by": st.sampled_from([alice.user.pk, bob.user.pk]),
    }
    order = KEPT_ORDER | {"name": "name"}

    @quick(9)
    @given(
        rows=st.lists(
            st.tuples(kept, names, websites, st.booleans()),
            min_size=8,
            max_size=25,
            unique_by=lambda row: row[0][0],
        ),
        questions=parameters_of(given_filters, list(order)),
    )
    def holds(rows: list[tuple[Any, ...]], questions: list[Parameters]) -> None:
        present = stored(rows)
        for parameters in questions:
            fitting = [row for row in present if fits(row, parameters, filters)]
            check(alice, "/accounts/", asked(parameters), in_order(fitting, parameters, order, "id"))

    holds()


def test_destinations_are_those_that_fit(alice, bob, account, destination):
    methods = st.sampled_from(["GET", "POST", "PUT"])
    urls = st.sampled_from(["https://a.example.com/", "https://b.example.com/GET", "http://b.example.org/"])
    template = {field.attname: getattr(destination, field.attname) for field in Destination._meta.fields}

    def stored(rows: list[tuple[Any, ...]]) -> list[Destination]:
        Destination.objects.all().delete()
        return put(
            Destination,
            [
                Destination(
                    **template
                    | {
                        "id": key,
                        "created_at": created,
                        "updated_at": updated,
                        "created_by_id": bob.user.pk,
                        "url": url,
                        "http_method": method,
                        "active": active,
                        "paused": paused,
                    }
                )
                for (key, created, updated), url, method, active, paused in rows
            ],
        )

    filters = KEPT_FILTERS | {
        "url": lambda row, text: row.url == text,
        "http_method": lambda row, method: row.http_method == method,
        "active": lambda row, flag: row.active == (flag == "true"),
        "paused": lambda row, flag: row.paused == (flag == "true"),
        "search": lambda row, text: (
            text.lower() in row.url.lower() or text.lower() in row.http_method.lower()
        ),
    }
    flags = st.sampled_from(["true", "false"])
    given_filters = KEPT | {
        "url": urls,
        "http_method": methods,
        "active": flags,
        "paused": flags,
        "search": st.sampled_from(["get", "b.example", "p", "_"]),
        "updated_by": st.sampled_from([alice.user.pk, bob.user.pk]),
    }
    order = KEPT_ORDER | {"url": "url"}

    @quick(9)
    @given(
        rows=st.lists(
            st.tuples(kept, urls, methods, st.booleans(), st.booleans()),
            min_size=8,
            max_size=25,
            unique_by=lambda row: row[0][0],
        ),
        questions=parameters_of(given_filters, list(order)),
    )
    def holds(rows: list[tuple[Any, ...]], questions: list[Parameters]) -> None:
        present = stored(rows)
        for parameters in questions:
            fitting = [row for row in present if fits(row, parameters, filters)]
            path = f"/accounts/{account.pk}/destinations/"
            check(alice, path, asked(parameters), in_order(fitting, parameters, order, "id"))

    holds()


def test_members_are_those_that_fit(alice, bob, account):
    people = [
        User(email=f"{name}@{place}.example.com", password="!", created_by=bob.user, updated_by=bob.user)
        for name in ("a", "b", "ab", "ba")
        for place in ("x", "y", "xy")
    ]
    put(User, people)

    def stored(rows: list[tuple[Any, ...]]) -> list[Member]:
        Member.objects.exclude(user=alice.user).delete()
        put(
            Member,
            [
                Member(
                    id=key,
                    account=account,
                    user=people[number],
                    role_id=role,
                    created_at=created,
                    updated_at=updated,
                    created_by=bob.user,
                    updated_by=alice.user,
                )
                for (key, created, updated), number, role in rows
            ],
        )
        return list(Member.objects.filter(account=account).select_related("user"))

    filters = KEPT_FILTERS | {
        "email": lambda row, text: row.user.email == text,
        "role": lambda row, role: row.role_id == IDS[RoleName(role)],
        "search": lambda row, text: text.lower() in row.user.email,
    }
    given_filters = KEPT | {
        "email": st.sampled_from([person.email for person in people]),
        "role": st.sampled_from([str(name) for name in RoleName]),
        "search": st.sampled_from(["B@", "xy", "example", "alice", "%"]),
        "created_by": st.sampled_from([alice.user.pk, bob.user.pk]),
    }

    @quick(9)
    @given(
        rows=st.lists(
            st.tuples(kept, st.integers(0, len(people) - 1), st.integers(1, 2)),
            unique_by=(lambda row: row[0][0], lambda row: row[1]),
            min_size=6,
            max_size=len(people),
        ),
        questions=parameters_of(given_filters, ["created_at", "updated_at", "email"]),
    )
    def holds(rows: list[tuple[Any, ...]], questions: list[Parameters]) -> None:
        present = stored(rows)
        for parameters in questions:
            fitting = [row for row in present if fits(row, parameters, filters)]
            for row in fitting:
                row.email = row.user.email
            path = f"/accounts/{account.pk}/members/"
            order = KEPT_ORDER | {"email": "email"}
            check(alice, path, asked(parameters), in_order(fitting, parameters, order, "id"))

    holds()
