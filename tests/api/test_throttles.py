"""Who asks too often is told when to come again; nobody else is."""

import pytest
from django.core.cache import cache
from rest_framework.test import APIClient

from api import throttles
from config.environment import SettingError
from config.traffic import Rate, rate


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """Twenty seconds of a window of a minute have gone."""
    at = [60.0 * 1_000_000 + 20]
    monkeypatch.setattr(throttles.Throttle, "clock", staticmethod(lambda: at[0]))
    cache.clear()
    yield at
    cache.clear()


@pytest.fixture(autouse=True)
def rates(settings):
    settings.THROTTLE_USER = Rate(3, 60)
    settings.THROTTLE_ANONYMOUS = Rate(2, 60)
    return settings


def log_in(address="192.0.2.1", **headers):
    body = {"email": "nobody@people.example.com", "password": "not that one"}
    return APIClient(REMOTE_ADDR=address).post("/api/v1/auth/login/", body, headers=headers)


def statuses(asks):
    return [ask().status_code for ask in asks]


def test_a_user_may_ask_so_often_in_a_window(alice, clock):
    assert statuses([lambda: alice.get("/auth/me/")] * 4) == [200, 200, 200, 429]
    clock[0] += 40
    assert alice.get("/auth/me/").status_code == 200


def test_the_refusal_says_when_to_come_again(alice):
    reply = [alice.get("/auth/me/") for _ in range(4)][-1]
    assert reply.headers["Retry-After"] == "40"
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert reply.json()["type"] == "urn:data-pusher:problem:too-many-requests"
    assert reply.json()["message"] == "Too Many Requests"


def test_users_have_windows_of_their_own_whatever_their_address(alice, bob):
    assert statuses([lambda: alice.get("/auth/me/")] * 4)[-1] == 429
    assert bob.get("/auth/me/").status_code == 200


def test_a_write_that_is_refused_has_no_effect(alice):
    for _ in range(3):
        alice.get("/auth/me/")
    assert alice.post("/accounts/", {"name": "Orders"}).status_code == 429
    cache.clear()
    assert alice.get("/accounts/").json()["results"] == []


def test_strangers_are_counted_by_address(db):
    assert statuses([log_in] * 3) == [401, 401, 429]
    assert log_in("192.0.2.2").status_code == 401


def test_an_ipv6_network_is_one_stranger(db):
    assert statuses(lambda last=last: log_in(f"2001:db8::{last}") for last in (1, 2, 3)) == [401, 401, 429]
    assert log_in("2001:db8:0:1::1").status_code == 401


def test_a_header_makes_nobody_another_stranger(db):
    asks = [lambda number=number: log_in(X_FORWARDED_FOR=f"198.51.100.{number}") for number in range(3)]
    assert statuses(asks) == [401, 401, 429]


def test_behind_our_proxy_its_word_counts(db, settings):
    settings.TRUSTED_PROXIES = 1
    asks = [lambda: log_in(**{"X-Forwarded-For": "198.51.100.1"})] * 3
    assert statuses(asks) == [401, 401, 429]
    assert log_in(**{"X-Forwarded-For": "198.51.100.2"}).status_code == 401


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer cla_wrong"}])
def test_refusals_of_strangers_count_too(db, headers):
    client = APIClient()
    asks = [lambda: client.get("/api/v1/accounts/", headers=headers)] * 3
    assert statuses(asks) == [401, 401, 429]


@pytest.mark.parametrize("path", ["/api/schema/", "/api/docs/", "/api/redoc/"])
def test_the_documents_are_for_everybody_but_not_all_the_time(db, settings, path):
    settings.THROTTLE_ANONYMOUS = Rate(1, 60)
    client = APIClient()
    assert client.get(path).status_code == 200
    refused = client.get(path)
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "40")
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert refused.json()["status"] == 429


def test_off_is_off(alice, settings):
    settings.THROTTLE_USER = settings.THROTTLE_ANONYMOUS = None
    assert {alice.get("/auth/me/").status_code for _ in range(10)} == {200}
    assert {log_in().status_code for _ in range(4)} == {401}


def test_a_cache_that_is_away_lets_everybody_in(alice, monkeypatch, caplog):
    def away(*_args, **_kwargs):
        raise ConnectionError(111, "Connection refused")

    monkeypatch.setattr(throttles.cache, "add", away)
    monkeypatch.setattr(throttles, "_complained", float("-inf"))
    assert {alice.get("/auth/me/").status_code for _ in range(5)} == {200}
    assert [record.message for record in caplog.records if "cache is away" in record.message] != []
    assert len([record for record in caplog.records if "cache is away" in record.message]) == 1


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("1200/min", Rate(1200, 60)),
        ("5/s", Rate(5, 1)),
        ("10/hour", Rate(10, 3600)),
        ("1/day", Rate(1, 86_400)),
        ("off", None),
    ],
)
def test_a_rate_is_a_number_per_time(text, meant):
    assert rate("THROTTLE_USER", text) == meant


@pytest.mark.parametrize(
    "text", ["", "0/min", "-1/min", "10", "10/fortnight", "1.5/s", "ten/min", "10/min ", "१/s"]
)
def test_a_wrong_rate_is_named(text):
    with pytest.raises(SettingError, match="THROTTLE_USER must be"):
        rate("THROTTLE_USER", text)
