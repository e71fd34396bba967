"""Can a destination make us dial what we may not: when it is saved, when it is tested, when it is sent to?

A trap listens on every address of this machine. DESTINATION_ALLOW opens one other port: what is sent there
shows that sending works.
"""

import itertools
import json
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

import pytest
from django.test import Client
from psycopg import sql as statements

from accounts import operations, vault
from accounts.models import Destination
from delivery import transport
from guard import headers as guard_headers
from guard import urls as guard_urls
from guard.addresses import Policy
from outbox import worker
from tests.hostile import destinations
from tests.outbox.workers import Alice
from tests.receivers import Answer, Receiver

GOOD = {"url": "https://hooks.site.com/in", "http_method": "POST", "headers": {"X-Team": "blue"}}
REFUSALS = {"invalid_request", "blocked"}


@pytest.fixture
def trap():
    with Receiver(host="0.0.0.0") as listening:
        yield listening
        assert listening.connections == 0, "somebody was dialled"


# --- when it is saved ---------------------------------------------------------------------------------------


def bodies(port: int) -> list[tuple[str, str]]:
    """(why, the JSON of a destination that must not be)."""
    urls = [(why, {**GOOD, "url": url.replace("{port}", str(port))}) for url, why in destinations.URLS]
    headers = [(why, {**GOOD, "headers": sent}) for sent, why in destinations.HEADERS if sent]
    shapes = [
        (f"{field}: {why}", json.dumps({**GOOD, field: "SHAPE"}).replace('"SHAPE"', shape))
        for shape, why in destinations.SHAPES
        for field in ("url", "headers", "http_method")
    ]
    return [*((why, json.dumps(content)) for why, content in [*urls, *headers]), *shapes]


@pytest.mark.slow
def test_none_is_saved_and_none_is_dialled(alice, account, trap, dialled):
    at = f"/api/v1/accounts/{account.pk}/destinations/"
    kept = operations.create_destination(actor=alice.user, account_id=account.pk, **GOOD).destination
    before = Destination.objects.values().get()
    client = Client(headers={"Authorization": f"Bearer {alice.token}"}, raise_request_exception=False)
    asked = bodies(trap.port)
    taken = {}
    creating, changing = ("post", at), ("patch", f"{at}{kept.pk}/")
    for (why, body), (method, path) in [
        *itertools.product(asked, [creating]),
        *itertools.product(asked[::5], [changing]),  # the same serializer
    ]:
        reply = getattr(client, method)(path, body, content_type="application/json")
        if reply.status_code != 400 or reply.headers["Content-Type"] != "application/problem+json":
            taken[f"{method}: {why}"] = reply.status_code
    assert taken == {}
    assert len(asked) > 300
    assert Destination.objects.values().get() == before
    assert dialled == []


def test_the_guard_refuses_every_line_of_the_tables():
    opened = Policy(["127.0.0.1/32:9000"])
    for url, _ in destinations.URLS:
        with pytest.raises(guard_urls.Refused):
            guard_urls.check(url.replace("{port}", "8000"), opened)
    for sent, _ in destinations.HEADERS:
        with pytest.raises(guard_headers.Refused):
            guard_headers.check(sent)


# --- when it is tested, and when it is sent to --------------------------------------------------------------


class Forger:
    """Writes destinations past the API and past every constraint, as the tables' owner can."""

    def __init__(self, database: Any, alice: Alice, opened: Receiver) -> None:
        self._alice = alice
        self._opened = opened
        self.why: dict[UUID, str] = {}
        self._owner = database.connect_owner()
        for (name,) in self._owner.execute(
            "SELECT conname FROM pg_constraint WHERE contype = 'c'"
            " AND conrelid = 'accounts_destination'::regclass"
        ).fetchall():
            drop = statements.SQL("ALTER TABLE accounts_destination DROP CONSTRAINT {}")
            self._owner.execute(drop.format(statements.Identifier(name)))

    def urls(self, rows: Iterable[tuple[str, str]]) -> None:
        for url, why in rows:
            if "\x00" not in url and len(url) <= guard_urls.LONGEST:  # the column takes no others of anybody
                self._change(f"{why}: {url[:60]}", "url = %s", url)

    def methods(self, rows: Iterable[tuple[str, str]]) -> None:
        for method, why in rows:
            self._change(f"{why}: {method}", "http_method = %s", method)

    def headers(self, rows: Iterable[tuple[Mapping[str, Any], str]]) -> None:
        for sent, why in rows:
            if not all(isinstance(value, str) for value in sent.values()):
                continue  # only who has the encryption key could write one
            destination = self._destination(f"{why}: {str(sent)[:60]}")
            stored = vault.encrypt_headers(
                tuple(sent.items()), account_id=self._alice.account_id, destination_id=destination
            )
            self._update(destination, "encrypted_headers = %s", stored)

    def _change(self, why: str, change: str, value: str) -> None:
        self._update(self._destination(why), change, value)

    def _destination(self, why: str) -> UUID:
        made = self._alice.sends_to(self._opened.url("/hostile"), schedule=())
        self.why[made] = why
        return made

    def _update(self, destination: UUID, change: str, value: str) -> None:
        statement = f"UPDATE accounts_destination SET {change}, revision = revision + 1 WHERE id = %s"
        assert self._owner.execute(statement, [value, destination]).rowcount == 1


@pytest.fixture
def opened(settings):
    """The one receiver that may be dialled."""
    with Receiver() as listening:
        settings.DESTINATION_ALLOW = [f"127.0.0.1/32:{listening.port}"]
        settings.DESTINATIONS_PER_ACCOUNT = 10_000
        settings.SHUTDOWN_GRACE_SECONDS = 10
        yield listening


def drained(sql: Any) -> dict[UUID, tuple[set[str], set[str]]]:
    """By destination: how its deliveries ended, and the reasons of all attempts."""
    for _ in range(10):
        worker.drain(slot=0, seconds=1, hand_over=lambda: None)
        if sql.execute("SELECT count(*) FROM outbox").fetchone() == (0,):
            break
    told: dict[UUID, tuple[set[str], set[str]]] = {}
    for kind, data in sql.execute("SELECT type, data FROM event WHERE type LIKE 'delivery.%'"):
        ends, reasons = told.setdefault(UUID(data["destination"]), (set(), set()))
        reasons.add(data["reason"])
        if kind != "delivery.attempted":
            ends.add(kind)
    return told


def samples_of(alice: Alice, made: Iterable[UUID]) -> set[int]:
    """What the API answers when each is sent a sample."""
    token = operations.log_in(email=alice.user.email, password="correct horse battery staple").access_token
    client = Client(headers={"Authorization": f"Bearer {token}"}, raise_request_exception=False)
    at = f"/api/v1/accounts/{alice.account_id}/destinations"
    return {client.post(f"{at}/{one}/test/", {}, content_type="application/json").status_code for one in made}


@pytest.mark.slow
def test_one_that_was_forged_behind_the_api_is_refused_by_the_worker(database, opened, trap, dialled):
    alice = Alice()
    well = alice.sends_to(opened.url("/well"))
    forger = Forger(database, alice, opened)
    forger.urls((url.replace("{port}", str(trap.port)), why) for url, why in destinations.URLS)
    forger.headers(destinations.HEADERS)
    forger.methods(destinations.METHODS)
    assert samples_of(alice, list(forger.why)[::5]) == {201}  # they wait like all else: the worker judges
    alice.posts("order-1")
    told = drained(database.connect())
    assert told.pop(well) == ({"delivery.succeeded"}, {"delivered"})
    wrong = {
        forger.why[made]: told.get(made)
        for made in forger.why
        if made not in told or told[made][0] != {"delivery.exhausted"} or not told[made][1] <= REFUSALS
    }
    assert wrong == {}
    assert [seen.path for seen in opened.seen] == ["/well"]
    assert set(dialled) <= {("127.0.0.1", opened.port)}


@pytest.mark.slow
def test_a_name_that_leads_inside_is_refused_by_the_worker(database, opened, trap, dialled, monkeypatch):
    answers = {f"name{number}.site.com": found for number, (found, _) in enumerate(destinations.NAMES)}
    monkeypatch.setattr(transport, "_addresses_of", lambda host, **_: answers[host])
    alice = Alice()
    made = {
        alice.sends_to(f"http://{host}:{trap.port}/", schedule=()): why
        for host, (_, why) in zip(answers, destinations.NAMES, strict=True)
    }
    alice.posts("order-1")
    told = drained(database.connect())
    refused = {why: told[one] for one, why in made.items()}
    assert {why for why, (ends, _) in refused.items() if ends != {"delivery.exhausted"}} == set()
    assert set().union(*(reasons for _, reasons in refused.values())) <= {"blocked", "dns"}
    assert dialled == []


@pytest.mark.slow
def test_a_name_that_moves_while_a_delivery_waits_is_refused_by_the_worker(
    database, opened, trap, dialled, monkeypatch
):
    """Rebinding: well when it was saved and at the first attempt, inside at the second."""
    moves = {"mixed.site.com": ["127.0.0.1", "127.0.0.2"], "inside.site.com": ["127.0.0.2"]}
    asked: list[str] = []

    def lookup(host: str, **_: bool) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if asked.count(host) == 1 else moves[host]

    monkeypatch.setattr(transport, "_addresses_of", lookup)
    monkeypatch.setattr(transport, "NAME_SECONDS", 0)
    opened.default = Answer(500, close=True)
    alice = Alice()
    made = [alice.sends_to(opened.url("/hook", host=host), schedule=(1,)) for host in moves]
    alice.posts("order-1")
    told = drained(database.connect())
    assert [told[one] for one in made] == [({"delivery.exhausted"}, {"server_error", "blocked"})] * 2
    assert set(dialled) == {("127.0.0.1", opened.port)}
    assert len(opened.seen) == 2
