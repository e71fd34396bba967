"""Is every refusal a problem (RFC 9457) in JSON, whoever makes it: DRF, Django, or the database?"""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.db import DataError, OperationalError, transaction
from rest_framework import exceptions
from rest_framework.test import APIClient

from accounts import queries
from api import errors, problems
from tests.api.test_roles_matrix import ROWS, Cell, World

ACCOUNTS = "/api/v1/accounts/"


def client(person) -> APIClient:
    made = APIClient(raise_request_exception=False)
    made.credentials(HTTP_AUTHORIZATION=f"Bearer {person.token}")
    return made


def assert_problem(reply, status: int, slug: str) -> dict:
    assert reply.status_code == status
    assert reply["Content-Type"] == "application/problem+json"
    problem = reply.json()
    assert problem["type"] == problems.TYPE_PREFIX + slug
    assert problem["status"] == status
    assert problem["success"] is False
    assert problem["title"]
    assert problem["detail"]
    assert set(problem) == {"type", "title", "status", "detail", "instance", "success", "message", "errors"}
    return problem


BODIES = [
    ("not JSON", b"{", "application/json", 400, "malformed-request"),
    ("a secret in bad JSON", b'{"password": "canary-9" x}', "application/json", 400, "malformed-request"),
    ("nothing at all", b"", "application/json", 400, "invalid-data"),
    ("NaN", b'{"name": NaN}', "application/json", 400, "malformed-request"),
    ("a lone surrogate", b'{"name": "\\ud800"}', "application/json", 400, "malformed-request"),
    ("no UTF-8", b'{"name": "\xff"}', "application/json", 400, "malformed-request"),
    ("a byte order mark", b"\xef\xbb\xbf{}", "application/json", 400, "malformed-request"),
    ("deep", b'{"name":' + b"[" * 100_000, "application/json", 400, "malformed-request"),
    ("deep and whole", b'{"name":' + b"[" * 900 + b"]" * 900 + b"}", "application/json", 400, "invalid-data"),
    ("too large", b'{"name": "' + b"x" * (1 << 20) + b'"}', "application/json", 413, "content-too-large"),
    (
        "utf-16",
        '{"name": "x"}'.encode("utf-16"),
        "application/json; charset=utf-16",
        415,
        "unsupported-media-type",
    ),
    ("latin-1", b'{"name": "x"}', "application/json; charset=latin-1", 415, "unsupported-media-type"),
    ("two types", b'{"name": "x"}', "application/json, text/plain", 415, "unsupported-media-type"),
    ("a codec", b'{"name": "x"}', "application/json; charset=unicode_escape", 415, "unsupported-media-type"),
    ("a form", b"name=x", "application/x-www-form-urlencoded", 415, "unsupported-media-type"),
    ("a file", b"--x--", "multipart/form-data; boundary=x", 415, "unsupported-media-type"),
    ("text", b'{"name": "x"}', "text/plain", 415, "unsupported-media-type"),
    ("no type", b'{"name": "x"}', "", 415, "unsupported-media-type"),
]


@pytest.mark.parametrize(
    ("body", "kind", "status", "slug"), [row[1:] for row in BODIES], ids=[row[0] for row in BODIES]
)
def test_a_body_that_can_not_be_read_is_told_so(alice, body, kind, status, slug):
    reply = client(alice).generic("POST", ACCOUNTS, body, content_type=kind)
    assert_problem(reply, status, slug)
    assert b"canary" not in reply.content


REPEATED = [
    ("a name", b'{"name": "a", "name": "b"}', ["name"]),
    ("the same value", b'{"name": "a", "name": "a"}', ["name"]),
    ("written otherwise", b'{"name": "a", "na\\u006de": "b"}', ["name"]),
    ("deep inside", b'{"name": "a", "headers": {"X": [{"Y": 1, "Y": 2}]}}', ["Y"]),
    ("beside a number of 300 digits", b'{"name": "a", "name": ' + b"9" * 300 + b"}", ["name"]),
]


@pytest.mark.parametrize(("body", "fields"), [row[1:] for row in REPEATED], ids=[row[0] for row in REPEATED])
def test_a_name_that_stands_twice_in_an_object_is_400(alice, body, fields):
    reply = client(alice).generic("POST", ACCOUNTS, body, content_type="application/json")
    assert list(assert_problem(reply, 400, "invalid-data")["errors"]) == fields


def test_a_value_that_may_be_a_secret_out_of_place_is_not_told_again(alice, account):
    told, owned = client(alice), f"{ACCOUNTS}{account.pk}/"
    for reply in (
        told.get(f"{owned}destinations/?http_method=s3cret&active=s3cret"),
        told.get(f"{owned}members/?role=s3cret"),
        told.get(f"{owned}logs/?status=s3cret"),
        told.post(f"{owned}destinations/", {"http_method": "s3cret"}, format="json"),
        told.post(f"{owned}members/", {"email": "a@b.example.com", "role": "s3cret"}, format="json"),
        told.generic("POST", ACCOUNTS, b"{}", content_type="s3cret"),
    ):
        assert reply.status_code in (400, 415)
        assert "s3cret" not in reply.content.decode()


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate"])
def test_an_encoded_body_is_415(alice, coding):
    reply = client(alice).generic(
        "POST", ACCOUNTS, b'{"name": "x"}', content_type="application/json", HTTP_CONTENT_ENCODING=coding
    )
    assert assert_problem(reply, 415, "unsupported-media-type")["detail"].endswith("not encoded.")


def test_a_body_in_chunks_is_411(alice):
    reply = client(alice).generic(
        "POST", ACCOUNTS, b'{"name": "x"}', content_type="application/json", HTTP_TRANSFER_ENCODING="chunked"
    )
    assert_problem(reply, 411, "length-required")


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "application/json; charset=utf-8",
        "APPLICATION/JSON;charset=UTF-8",
        "application/json;",
        "application/json; ;charset=utf-8",
        "application/json; charset=utf-8; profile=x",
        'application/json; charset="utf-8"',
        "application/json; charset*=utf-8''utf-8",
        "application/json; charset",
    ],
)
def test_utf_8_is_read(alice, kind):
    reply = client(alice).generic("POST", ACCOUNTS, '{"name": "Café ☕"}'.encode(), content_type=kind)
    assert reply.status_code == 201
    assert reply.json()["data"]["name"] == "Café ☕"


@pytest.mark.parametrize("accept", ["text/html", "application/xml", "image/*", "nonsense"])
def test_json_is_answered_whatever_is_accepted(alice, accept):
    reply = client(alice).get(ACCOUNTS, headers={"Accept": accept})
    assert (reply.status_code, reply["Content-Type"]) == (200, "application/json")
    assert reply["Cache-Control"] == "private, no-cache"


@pytest.mark.parametrize("method", ["put", "patch", "delete", "options", "trace"])
def test_another_method_is_405_and_names_those_that_are(alice, method):
    reply = getattr(client(alice), method)(ACCOUNTS)
    assert_problem(reply, 405, "method-not-allowed")
    assert reply["Allow"] == "GET, HEAD, POST"


@pytest.mark.parametrize(
    "path", ["/api/", "/api/v1/", "/api/v1/nothing/", "/api/v1/accounts", "/nothing", "/admin/"]
)
@pytest.mark.django_db
def test_an_unknown_path_is_404(path):
    problem = assert_problem(APIClient().get(path), 404, "not-found")
    assert problem["instance"] == path


@pytest.mark.django_db
def test_a_host_that_is_not_ours_is_400(settings):
    settings.ALLOWED_HOSTS = ["push.example.com"]
    assert_problem(
        APIClient().get("/api/v1/auth/me/", headers={"Host": "evil.example.com"}), 400, "malformed-request"
    )


def test_what_nobody_foresaw_is_500_and_says_nothing_of_it(alice, monkeypatch):
    def fall(*_):
        raise RuntimeError("canary-10")

    monkeypatch.setattr(queries, "accounts_of", fall)
    reply = client(alice).get(ACCOUNTS)
    assert_problem(reply, 500, "internal-error")
    assert b"canary" not in reply.content


def test_a_database_that_is_away_is_503(alice, monkeypatch):
    def fall(*_):
        raise OperationalError("connection refused at canary-11")

    monkeypatch.setattr(queries, "user_of_bearer", fall)
    reply = client(alice).get(ACCOUNTS)
    problem = assert_problem(reply, 503, "unavailable")
    assert problem["message"] == "Unavailable"
    assert reply["Retry-After"] == "1"
    assert b"canary" not in reply.content


def test_a_value_that_nobody_foresaw_is_400(alice, monkeypatch):
    def fall(*_):
        raise DataError("canary-12 out of range")

    monkeypatch.setattr(queries, "accounts_of", fall)
    reply = client(alice).get(ACCOUNTS)
    assert_problem(reply, 400, "malformed-request")
    assert b"canary" not in reply.content


@pytest.mark.django_db
@pytest.mark.parametrize("method", ["POST", "PUT", "CONNECT"])
def test_a_form_of_another_site_is_403(method):
    reply = APIClient(enforce_csrf_checks=True).generic(method, "/", b"")
    assert_problem(reply, 403, "csrf-failed")


@pytest.mark.parametrize(
    "content",
    [
        {"url": "https://x.example.com", "http_method": "x" * 500_000},
        {"url": "https://x.example.com", "http_method": ["x"] * 50_000},
        {"x" * 500_000: 1},
        {f"x{number}": 1 for number in range(20_000)},
    ],
    ids=["a choice", "a list for a choice", "a name", "many names"],
)
def test_an_error_stays_small_whatever_was_sent(alice, account, content):
    reply = client(alice).post(f"{ACCOUNTS}{account.pk}/destinations/", content, format="json")
    assert_problem(reply, 400, "invalid-data")
    assert len(reply.content) < 100_000


@pytest.mark.parametrize(
    ("detail", "flat"),
    [
        ({"name": ["Bad."]}, {"name": ["Bad."]}),
        ({"headers": {"X": ["Bad."]}}, {"headers.X": ["Bad."]}),
        ({"list": [{}, {"x": ["Bad."]}]}, {"list.1.x": ["Bad."]}),
        ({"non_field_errors": ["Bad."]}, {"non_field_errors": ["Bad."]}),
        ({"headers": {"non_field_errors": ["Bad."]}}, {"headers": ["Bad."]}),
        (["Bad.", "Worse."], {"non_field_errors": ["Bad.", "Worse."]}),
        ("Bad.", {"non_field_errors": ["Bad."]}),
    ],
)
def test_nested_errors_have_dotted_names(detail, flat):
    problem = errors.handle(
        exceptions.ValidationError(detail), {"request": type("Request", (), {"path": "/"})}
    )
    assert problem.data["errors"] == flat


def test_slugs_are_unique():
    slugs = [problem.slug for problem in problems.ALL]
    assert len(slugs) == len(set(slugs)) > 15


# --- every write, with what it does not take ----------------------------------------------------------------

HOSTILE = [
    None, True, 0, -1, 5.5, 10**30, -(2**63), 1e308, "", " ", "\x00", "\u0085", "é" * 5000, "\u202e",
    [], ["x"], [[[]]], [None], {}, {"": ""}, {"\x00": "y"}, {"X": None}, {"x": {"y": []}},
]  # fmt: skip
NO_OBJECTS = [b"[]", b'"x"', b"5", b"null", b"true", b"[{}]"]
WRITES = [(route, method) for route, method in ROWS if method in {"post", "put", "patch"}]


@pytest.fixture
def world(db) -> World:
    return World()


def asking(world: World, route: str, method: str) -> Callable[[bytes], Any]:
    """Sends the Admin's bodies to this write; each is undone."""
    cell = Cell(route, method, "admin", ("own",) * route.count("<"), 200)
    path, token = world.path(cell), world.tokens["admin"]

    def ask(body: bytes) -> Any:
        made = APIClient(raise_request_exception=False)
        made.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
        before = transaction.savepoint_create()
        reply = made.generic(method.upper(), path, body, content_type="application/json")
        transaction.savepoint_rollback(before)
        return reply

    return ask


@pytest.mark.slow
@pytest.mark.parametrize(("route", "method"), WRITES, ids=[f"{method} {route}" for route, method in WRITES])
def test_no_write_falls_over_a_value(world, route, method):
    ask, content = asking(world, route, method), ROWS[route, method].content or {}
    for field in content:
        for value in HOSTILE:
            reply = ask(json.dumps({**content, field: value}).encode())
            if reply.status_code < 400:
                assert reply.json()["success"] is True  # it takes this value
            else:
                slug = reply.json()["type"].removeprefix(problems.TYPE_PREFIX)
                assert (reply.status_code, slug) in {(400, "invalid-data"), (401, "wrong-credentials")}, value
                assert_problem(reply, reply.status_code, slug)
    unknown = assert_problem(ask(json.dumps({**content, "unknown": 1}).encode()), 400, "invalid-data")
    assert list(unknown["errors"]) == ["unknown"]
    for body in NO_OBJECTS:
        assert_problem(ask(body), 400, "invalid-data")


def test_every_write_is_walked():
    assert len(WRITES) >= 20
