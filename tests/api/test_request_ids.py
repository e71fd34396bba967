"""Does every request to the management API have an id, and one line of log?"""

import asyncio
import json
import logging
import re

import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.db import connections

from accounts import operations
from api.bridge import Bridge
from config import logs
from tests.api import asgi
from tests.api.conftest import PASSWORD, person

MADE = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")


@pytest.fixture
def lines():
    """What is logged, as the lines of production."""

    class Kept(logging.Handler):
        def emit(self, record):
            written.append(json.loads(self.format(record)))

    written = []
    handler = Kept(logging.INFO)
    handler.setFormatter(logs.formatter("json"))
    logging.getLogger().addHandler(handler)
    before = logging.getLogger("api.requests").level
    logging.getLogger("api.requests").setLevel(logging.INFO)
    yield written
    logging.getLogger("api.requests").setLevel(before)
    logging.getLogger().removeHandler(handler)


def ask(path, *, method="GET", body=b"", query=b"", headers=(), wsgi=None):
    bridge = Bridge(wsgi or django, threads=1, most_bytes=1000, seconds=0.2)
    headers = [("host", "localhost"), ("content-length", str(len(body))), *headers]
    messages = asgi.parts(body) if body else []
    return asyncio.run(asgi.call(bridge, messages, method=method, path=path, headers=headers, query=query))


def django(environ, start):
    """Django in the bridge's thread, which leaves no connection behind."""
    try:
        return WSGIHandler()(environ, start)
    finally:
        connections.close_all()


@pytest.mark.parametrize("given", ["abc", "01J-x_y.Z", "x" * 128])
def test_a_sane_id_is_kept(given):
    assert ask("/nothing", headers=[("X-Request-ID", given)]).header("x-request-id") == given


@pytest.mark.parametrize(
    "given", ["", "x" * 129, "two words", 'quo"te', "a,b", b"caf\xc3\xa9", "{}", "../../etc", "a\tb"]
)
def test_another_is_replaced(given):
    assert MADE.fullmatch(ask("/nothing", headers=[("X-Request-ID", given)]).header("x-request-id"))


def test_two_are_none():
    headers = [("X-Request-ID", "one"), ("x-request-id", "two")]
    assert MADE.fullmatch(ask("/nothing", headers=headers).header("x-request-id"))


def test_without_one_each_gets_its_own():
    made = {ask("/nothing").header("x-request-id") for _ in range(3)}
    assert len(made) == 3


@pytest.mark.parametrize(
    ("status", "arguments"),
    [
        (404, {"path": "/nothing"}),
        (411, {"path": "/api/v1/accounts/", "headers": [("transfer-encoding", "chunked")]}),
        (413, {"path": "/api/v1/accounts/", "body": b"x" * 1001}),
        (415, {"path": "/api/v1/accounts/", "headers": [("content-type", "text/x; charset=utf-7")]}),
    ],
)
def test_refusals_carry_it_and_are_logged(lines, status, arguments):
    headers = [*arguments.get("headers", []), ("x-request-id", "mine")]
    reply = ask(**{**arguments, "headers": headers})
    assert (reply.status, reply.header("x-request-id")) == (status, "mine")
    [line] = [line for line in lines if line["logger"] == "api.requests"]
    assert (line["status"], line["request_id"], line["route"]) == (status, "mine", "")


def test_a_failure_carries_it_and_its_traceback_has_it_too(lines):
    def fall(environ, start_response):
        logging.getLogger("somewhere.deep").warning("about to fall")
        raise RuntimeError("fell")

    reply = ask("/crash", wsgi=fall, headers=[("x-request-id", "mine")])
    assert (reply.status, reply.header("x-request-id")) == (500, "mine")
    assert {line["request_id"] for line in lines} == {"mine"}
    assert [line["logger"] for line in lines] == ["somewhere.deep", "api.bridge", "api.requests"]
    assert "in fall" in lines[1]["exception"]


def test_the_line_tells_who_asked_for_what(lines, database):
    alice = person("alice")
    account = operations.create_account(actor=alice.user, name="Orders").account
    headers = [("authorization", f"Bearer {alice.token}"), ("x-request-id", "mine")]
    reply = ask(f"/api/v1/accounts/{account.pk}/", headers=headers)
    assert reply.status == 200
    [line] = [line for line in lines if line["logger"] == "api.requests"]
    assert 0 < line.pop("duration_ms") < 10_000
    assert line.pop("timestamp").endswith("Z")
    route = line.pop("route")
    assert route.startswith("api/v1/accounts/")
    assert str(account.pk) not in route
    assert line == {
        "level": "info",
        "logger": "api.requests",
        "event": f"GET {route} 200",
        "method": "GET",
        "status": 200,
        "user_id": str(alice.user.pk),
        "request_id": "mine",
        "address": "127.0.0.1",
    }


def test_a_stranger_has_no_user_and_an_unknown_method_no_name(lines, database):
    ask("/api/v1/accounts/")
    ask("/nothing", method="STEAL-A-LINE")
    read, unknown = (line for line in lines if line["logger"] == "api.requests")
    assert (read["status"], read["user_id"]) == (401, None)
    assert (unknown["status"], unknown["method"]) == (404, "?")


def test_a_login_is_told_without_its_words(lines, database):
    alice = person("alice")
    body = json.dumps({"email": alice.user.email, "password": PASSWORD}).encode()
    reply = ask(
        "/api/v1/auth/login/",
        method="POST",
        body=body,
        headers=[("content-type", "application/json")],
    )
    assert reply.status == 200
    ask("/nothing", query=b"q=asked")
    said = json.dumps(lines)
    assert "POST api/v1/auth/login/ 200" in said
    assert PASSWORD not in said
    assert alice.user.email not in said
    assert "q=asked" not in said


def test_the_ids_of_two_at_once_do_not_mix(lines):
    """Each has a context of its own, in the thread as on the loop."""

    def wsgi(environ, start_response):
        logging.getLogger("deep").warning(environ["PATH_INFO"])
        start_response("204 No Content", [])
        return []

    bridge = Bridge(wsgi, threads=4, most_bytes=10)

    async def scenario():
        calls = (
            asgi.call(bridge, method="GET", path=f"/{number}", headers=[("x-request-id", f"id-{number}")])
            for number in range(40)
        )
        return await asyncio.gather(*calls)

    replies = asyncio.run(scenario())
    assert [reply.header("x-request-id") for reply in replies] == [f"id-{number}" for number in range(40)]
    assert {line["request_id"] for line in lines if line["logger"] == "deep"} == {
        f"id-{number}" for number in range(40)
    }
    for line in lines:
        if line["logger"] == "deep":
            assert line["event"].replace("/", "id-") == line["request_id"]
