"""Row by row: what `POST /server/incoming_data` answers, what it checks first, what it lets through."""

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest

from accounts import tokens
from api import moments, receiver
from outbox.intake import Outcome, Submission, Verdict
from tests.api import asgi

TOKEN = tokens.make()
EVENT = UUID("0199aaaa-0000-7000-8000-000000000001")
RECEIVED = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)
ACCEPTED = Verdict(Outcome.ACCEPTED, EVENT, RECEIVED, deliveries=2, limit=5, remaining=4)
GOOD = {"CL-X-TOKEN": TOKEN.text, "CL-X-EVENT-ID": "order-1", "Content-Type": "application/json"}


class Intake:
    """Keeps what it is given, and answers what it was told to."""

    def __init__(self, verdict: Verdict | Exception = ACCEPTED) -> None:
        self.verdict = verdict
        self.seen: list[Submission] = []

    async def accept(self, submission: Submission) -> Verdict:
        self.seen.append(submission)
        if isinstance(self.verdict, Exception):
            raise self.verdict
        return self.verdict


def post(
    body: bytes = b"{}",
    *,
    intake: Intake | None = None,
    headers: dict[str, str | bytes | None] | None = None,
    extra: Sequence[tuple[str, str]] = (),
    messages: list[dict[str, Any]] | None = None,
    method: str = "POST",
    most_bytes: int = 1000,
    seconds: float = 5,
) -> asgi.Reply | None:
    """One request with good headers, changed by `headers` (None takes one away)."""
    door = receiver.Receiver(intake or Intake(), most_bytes=most_bytes, seconds=seconds)
    changed = {**GOOD, "Content-Length": str(len(body)), **(headers or {})}
    pairs = [(name, value) for name, value in changed.items() if value is not None] + list(extra)
    arriving = asgi.parts(body) if messages is None else messages
    return asyncio.run(asgi.call(door, arriving, method=method, path="/server/incoming_data", headers=pairs))


def answer(*args: Any, **options: Any) -> asgi.Reply:
    reply = post(*args, **options)
    assert reply is not None
    assert reply.header("content-type") == "application/json"
    assert reply.header("content-length") == str(len(reply.body))
    return reply


# --- the table ---------------------------------------------------------------------------------------------


def test_accepted_is_202_with_the_event():
    reply = answer(b'{"a": 1}')
    assert reply.status == 202
    assert reply.json == {
        "success": True,
        "message": "Data Received",
        "event": {
            "id": str(EVENT),
            "event_id": "order-1",
            "received_timestamp": "2026-11-20T12:00:00.000000Z",
            "deliveries": 2,
            "duplicate": False,
        },
    }
    assert reply.header("ratelimit-policy") == '"account";q=5;w=1'
    assert reply.header("ratelimit") == '"account";r=4'


def test_the_intake_gets_the_bytes_as_they_came_in():
    intake = Intake()
    body = b'{ "b":1e2,"a" : [1.0, "\xc3\xa9"], "b":2}\r\n'
    answer(body, intake=intake)
    (submission,) = intake.seen
    assert submission.body == body
    assert submission.event_id == "order-1"
    assert (submission.token.key_id, submission.token.digest) == (TOKEN.key_id, TOKEN.digest)


def test_a_duplicate_is_200_with_the_same_event():
    reply = answer(intake=Intake(Verdict(Outcome.DUPLICATE, EVENT, RECEIVED, deliveries=2, limit=5)))
    assert reply.status == 200
    assert reply.json["success"] is True
    assert reply.json["event"]["duplicate"] is True
    assert reply.json["event"]["id"] == str(EVENT)
    assert reply.header("ratelimit") is None  # it spent nothing, and what is left was not read


def test_other_bytes_under_the_same_id_are_409():
    reply = answer(intake=Intake(Verdict(Outcome.CONFLICT, limit=5)))
    assert reply.status == 409
    assert reply.header("ratelimit") is None
    assert reply.json["message"] == "Invalid Data"
    assert list(reply.json["errors"]) == ["CL-X-EVENT-ID"]


def test_an_unknown_token_is_401_like_a_missing_one():
    unknown = answer(intake=Intake(Verdict(Outcome.UNAUTHENTICATED)))
    missing = answer(headers={"CL-X-TOKEN": None})
    assert unknown == missing
    assert unknown.status == 401
    assert unknown.json == {"success": False, "message": "Unauthenticated"}


@pytest.mark.parametrize(
    ("milliseconds", "seconds"),
    [(0, "1"), (1, "1"), (999, "1"), (1000, "1"), (1001, "2"), (4000, "4")],
)
def test_over_the_limit_is_429_and_says_when_to_come_again(milliseconds: int, seconds: str):
    verdict = Verdict(Outcome.LIMITED, limit=5, retry_after_ms=milliseconds)
    reply = answer(intake=Intake(verdict))
    assert reply.status == 429
    assert reply.json == {"success": False, "message": "Too Many Requests"}
    assert reply.header("retry-after") == seconds
    assert reply.header("ratelimit-policy") == '"account";q=5;w=1'
    assert reply.header("ratelimit") == f'"account";r=0;t={seconds}'


def test_unavailable_is_503_and_says_when_to_come_again():
    reply = answer(intake=Intake(Verdict(Outcome.UNAVAILABLE, retry_after_ms=1500)))
    assert reply.status == 503
    assert reply.json == {"success": False, "message": "Unavailable"}
    assert reply.header("retry-after") == "2"


def test_what_nobody_foresaw_is_503_and_is_logged_without_the_content(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.ERROR):
        reply = answer(b'{"secret": "canary-7"}', intake=Intake(RuntimeError("the roof fell in")))
    assert (reply.status, reply.header("retry-after")) == (503, "1")
    assert "the roof fell in" in caplog.text
    assert "canary-7" not in caplog.text
    assert TOKEN.text not in caplog.text


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "post", "X"])
def test_another_method_is_405_and_names_post(method: str):
    intake = Intake()
    reply = answer(intake=intake, method=method)
    assert (reply.status, reply.header("allow")) == (405, "POST")
    assert reply.json["success"] is False
    assert reply.json["message"] == "Invalid Data"
    assert not intake.seen


REFUSED: list[tuple[str, dict[str, str | bytes | None], int]] = [
    ("no length", {"Content-Length": None}, 411),
    ("chunks", {"Content-Length": None, "Transfer-Encoding": "chunked"}, 411),
    ("a length beside chunks", {"Transfer-Encoding": "chunked"}, 411),
    ("a negative length", {"Content-Length": "-2"}, 400),
    ("a signed length", {"Content-Length": "+2"}, 400),
    ("a list of lengths", {"Content-Length": "2, 2"}, 400),
    ("a length in hexadecimal", {"Content-Length": "0x2"}, 400),
    ("a length in other digits", {"Content-Length": "\u00b2"}, 400),
    ("an empty length", {"Content-Length": ""}, 400),
    ("a length of 5,000 digits", {"Content-Length": "9" * 5000}, 400),
    ("one byte too many", {"Content-Length": "1001"}, 413),
    ("no content type", {"Content-Type": None}, 415),
    ("plain text", {"Content-Type": "text/plain"}, 415),
    ("a form", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
    ("a file", {"Content-Type": "multipart/form-data; boundary=x"}, 415),
    ("a JSON dialect", {"Content-Type": "application/vnd.api+json"}, 415),
    ("problem+json", {"Content-Type": "application/problem+json"}, 415),
    ("two content types", {"Content-Type": "application/json, text/html"}, 415),
    ("utf-16", {"Content-Type": "application/json; charset=utf-16"}, 415),
    ("utf-7", {"Content-Type": "application/json; charset=utf-7"}, 415),
    ("latin-1", {"Content-Type": "application/json; charset=latin-1"}, 415),
    ("unicode_escape", {"Content-Type": "application/json; charset=unicode_escape"}, 415),
    ("a codec", {"Content-Type": "application/json; charset=zlib_codec"}, 415),
    ("a parameter alone", {"Content-Type": ";application/json"}, 415),
    ("another parameter", {"Content-Type": "application/json; profile=x"}, 415),
    ("gzip", {"Content-Encoding": "gzip"}, 415),
    ("deflate", {"Content-Encoding": "deflate"}, 415),
    ("br", {"Content-Encoding": "br"}, 415),
    ("identity and gzip", {"Content-Encoding": "identity, gzip"}, 415),
    ("an empty token", {"CL-X-TOKEN": ""}, 401),
    ("no token of ours", {"CL-X-TOKEN": "letmein"}, 401),
    ("a token that isn't ASCII", {"CL-X-TOKEN": b"clx_\xff\xfe"}, 401),
    ("a token with a tail", {"CL-X-TOKEN": TOKEN.text + "x"}, 401),
    ("a token twice in one header", {"CL-X-TOKEN": f"{TOKEN.text},{TOKEN.text}"}, 401),
    ("an endless token", {"CL-X-TOKEN": "clx_" + "a" * 100_000}, 401),
    ("a token under another name", {"CL-X-TOKEN": None, "CL_X_TOKEN": TOKEN.text}, 401),
    ("no event id", {"CL-X-EVENT-ID": None}, 400),
    ("an empty event id", {"CL-X-EVENT-ID": ""}, 400),
    ("an event id of 129", {"CL-X-EVENT-ID": "x" * 129}, 400),
    ("an event id with a space", {"CL-X-EVENT-ID": "a b"}, 400),
    ("an event id of spaces", {"CL-X-EVENT-ID": "   "}, 400),
    ("an event id with a tab", {"CL-X-EVENT-ID": "a\tb"}, 400),
    ("an event id with a NUL", {"CL-X-EVENT-ID": "a\x00b"}, 400),
    ("an event id with a line break", {"CL-X-EVENT-ID": "a\r\nX: y"}, 400),
    ("an event id with DEL", {"CL-X-EVENT-ID": "a\x7f"}, 400),
    ("an event id that isn't ASCII", {"CL-X-EVENT-ID": "caf\u00e9"}, 400),
]


@pytest.mark.parametrize(("headers", "status"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_an_envelope_that_is_wrong_is_refused(headers: dict[str, str | bytes | None], status: int):
    intake = Intake()
    reply = answer(intake=intake, headers=headers)
    assert reply.status == status
    assert reply.json["success"] is False
    assert reply.json["message"] == ("Unauthenticated" if status == 401 else "Invalid Data")
    assert not intake.seen


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        ("CL-X-TOKEN", TOKEN.text, 401),
        ("cl-x-token", TOKEN.text, 401),
        ("CL-X-EVENT-ID", "order-1", 400),
        ("Content-Length", "2", 400),
        ("Content-Type", "application/json", 415),
    ],
)
def test_a_header_sent_twice_is_refused_even_when_both_agree(name: str, value: str, status: int):
    assert answer(extra=[(name, value)]).status == status


TAKEN: list[tuple[str, dict[str, str | bytes | None]]] = [
    ("a charset", {"Content-Type": "application/json; charset=utf-8"}),
    ("a charset without the space", {"Content-Type": "application/json;charset=utf-8"}),
    ("a charset in capitals", {"Content-Type": "Application/JSON; Charset=UTF-8"}),
    ("an empty parameter", {"Content-Type": "application/json;"}),
    ("an empty parameter before the charset", {"Content-Type": "application/json; ; charset=utf-8;"}),
    ("a charset in quotes", {"Content-Type": 'application/json; charset="utf-8"'}),
    ("identity", {"Content-Encoding": "Identity"}),
    ("an event id of one", {"CL-X-EVENT-ID": "!"}),
    ("an event id of 128", {"CL-X-EVENT-ID": "~" * 128}),
    ("a path as event id", {"CL-X-EVENT-ID": "../../etc/passwd"}),
    ("quotes in the event id", {"CL-X-EVENT-ID": "';DROP\"\\<>"}),
    ("leading zeros", {"Content-Length": "002"}),
    ("one hundred more headers", {f"X-{number}": "y" for number in range(100)}),
]


@pytest.mark.parametrize("headers", [row[1] for row in TAKEN], ids=[row[0] for row in TAKEN])
def test_an_envelope_that_is_unusual_but_right_is_taken(headers: dict[str, str | bytes | None]):
    reply = answer(headers=headers)
    assert reply.status == 202
    assert reply.json["event"]["event_id"] == headers.get("CL-X-EVENT-ID", "order-1")


def test_header_names_are_taken_in_any_case():
    headers = {
        **dict.fromkeys(GOOD),
        "cl-X-tOKEN": TOKEN.text,
        "CL-x-event-ID": "e",
        "CONTENT-TYPE": "application/json",
    }
    assert answer(headers=headers).status == 202


def test_the_most_that_fits_is_taken():
    body = b'{"a":"' + b"x" * 992 + b'"}'
    assert len(body) == 1000
    assert answer(body).status == 202


# --- the order ---------------------------------------------------------------------------------------------

WRONG: list[tuple[str, dict[str, str | bytes | None], int]] = [
    ("length", {"Content-Length": None}, 411),
    ("size", {"Content-Length": "1001"}, 413),
    ("type", {"Content-Type": "text/plain"}, 415),
    ("encoding", {"Content-Encoding": "gzip"}, 415),
    ("token", {"CL-X-TOKEN": None}, 401),
    ("event id", {"CL-X-EVENT-ID": None}, 400),
]


@pytest.mark.parametrize("first", range(len(WRONG)), ids=[row[0] for row in WRONG])
def test_the_first_fault_in_the_order_decides(first: int):
    headers: dict[str, str | bytes | None] = {}
    for _, wrong, _ in reversed(WRONG[first:]):
        headers |= wrong
    assert answer(b"not json", headers=headers).status == WRONG[first][2]
    assert answer(b"not json", headers=headers, method="GET").status == 405


def test_json_comes_before_the_database():
    intake = Intake(Verdict(Outcome.UNAUTHENTICATED))
    assert answer(b"not json", intake=intake).status == 400
    assert not intake.seen


@pytest.mark.parametrize("wrong", [row[1] for row in WRONG], ids=[row[0] for row in WRONG])
def test_what_the_headers_refuse_needs_no_body(wrong: dict[str, str | bytes | None]):
    assert answer(headers=wrong, messages=[]).status in {400, 401, 411, 413, 415}


# --- the body's way in -------------------------------------------------------------------------------------


def test_a_body_in_pieces_is_put_together():
    intake = Intake()
    reply = answer(b'{"a":1}', intake=intake, messages=asgi.parts(b'{"a', b"", b'":', b"1}"))
    assert reply.status == 202
    assert intake.seen[0].body == b'{"a":1}'


def test_a_body_that_does_not_arrive_in_time_is_408_and_ends_the_connection():
    intake = Intake()
    reply = answer(intake=intake, messages=asgi.parts(b"{", end=False), seconds=0.05)
    assert (reply.status, reply.header("connection")) == (408, "close")
    assert not intake.seen


@pytest.mark.parametrize(
    "messages",
    [
        asgi.parts(b"{"),  # ended early
        asgi.parts(b"{}{}"),  # more than it said
        asgi.parts(b"{", b"}}"),  # more than it said, in the second piece
    ],
)
def test_a_body_of_another_length_than_it_said_is_400(messages: list[dict[str, Any]]):
    intake = Intake()
    reply = answer(intake=intake, messages=messages)
    assert (reply.status, reply.header("connection")) == (400, "close")
    assert not intake.seen


@pytest.mark.parametrize("messages", [[asgi.GONE], [*asgi.parts(b"{", end=False), asgi.GONE]])
def test_a_client_that_goes_while_it_is_read_leaves_nothing_and_may_hear_400(messages: list[dict[str, Any]]):
    intake = Intake()
    assert answer(intake=intake, messages=messages).status == 400
    assert not intake.seen


def test_large_bodies_share_a_budget_and_give_it_back(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(receiver, "SMALL_BYTES", 10)
    monkeypatch.setattr(receiver, "LARGE_TOGETHER_BYTES", 150)
    body = b'{"a":"' + b"x" * 92 + b'"}'
    door = receiver.Receiver(Intake(), most_bytes=1000)
    headers = [*GOOD.items(), ("Content-Length", "100")]
    small = [*GOOD.items(), ("Content-Length", "2")]

    async def scenario() -> None:
        first = asyncio.create_task(asgi.call(door, asgi.parts(body[:60], end=False), headers=headers))
        await asyncio.sleep(0)
        second = await asgi.call(door, asgi.parts(body), headers=headers)
        assert second is not None
        assert (second.status, second.header("retry-after")) == (503, "1")
        third = await asgi.call(door, asgi.parts(b"{}"), headers=small)
        assert third is not None
        assert third.status == 202
        first.cancel()
        await asyncio.wait([first])
        again = await asgi.call(door, asgi.parts(body), headers=headers)
        assert again is not None
        assert again.status == 202

    asyncio.run(scenario())


def test_announced_lengths_take_no_room(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(receiver, "SMALL_BYTES", 10)
    monkeypatch.setattr(receiver, "LARGE_TOGETHER_BYTES", 150)
    body = b'{"a":"' + b"x" * 92 + b'"}'
    door = receiver.Receiver(Intake(), most_bytes=1000)
    headers = [*GOOD.items(), ("Content-Length", "100")]

    async def scenario() -> None:
        waiting = [
            asyncio.create_task(asgi.call(door, asgi.parts(b"{", end=False), headers=headers))
            for _ in range(20)
        ]
        await asyncio.sleep(0)
        reply = await asgi.call(door, asgi.parts(body[:50], body[50:]), headers=headers)
        assert reply is not None
        assert reply.status == 202
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)

    asyncio.run(scenario())


def test_an_error_never_echoes_the_content():
    reply = answer(b'{"password": "canary-8" oops}')
    assert reply.status == 400
    assert b"canary" not in reply.body


# --- JSON, after the cases of JSONTestSuite ----------------------------------------------------------------

TAKEN_JSON = [
    b"{}",
    b'{"":1}',
    b' {"a":[1,2,{"b":null}]} \n',
    b'\t{"a":true}\r\n',
    b'{"a":-0}',
    b'{"a":-0.0}',
    b'{"a":1e-400}',  # underflow: the bytes are kept as they are
    b'{"a":1E+2}',
    b'{"a":0.1}',
    b'{"a":123e65}',
    b'{"a":9223372036854775808}',
    b'{"a":123456789012345678901234567890}',
    b'{"a":"\\\\u0000"}',
    b'{"a":"\\u0000"}',
    b'{"a":"\\ud83d\\ude04"}',
    b'{"a":"\xf0\x9f\x98\x84"}',
    b'{"a":"\\/\\b\\f\\n\\r\\t\\"\\\\"}',
    b'{"a":"\xe2\x80\xa8"}',  # U+2028
    b'{"a":"\x7f"}',
    b'{"a":"\xef\xbf\xbf"}',  # a noncharacter
    b'{"a":1,"a":2}',  # JSONTestSuite takes duplicate keys: the bytes are kept
    b'{"__proto__":{"x":1}}',
    b'{"a":"<script>"}',
    b'{"a":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}',
    b'{"a":"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["}',
]
REFUSED_JSON = [
    b"",
    b" ",
    b"null",
    b"true",
    b"1",
    b'"text"',
    b"[]",
    b'[{"a":1}]',
    b"{",
    b"}",
    b"{]",
    b'{"a"}',
    b'{"a":}',
    b'{"a" 1}',
    b'{"a":1,}',
    b'{"a":1,,"b":2}',
    b'{"a":1}}',
    b'{"a":1}{"b":2}',
    b'{"a":1} x',
    b'{"a":1}//',
    b'{"a":/**/1}',
    b"{a:1}",
    b"{'a':1}",
    b"{1:1}",
    b'{"a":01}',
    b'{"a":+1}',
    b'{"a":.5}',
    b'{"a":5.}',
    b'{"a":1e}',
    b'{"a":0x1}',
    b'{"a":--1}',
    b'{"a":NaN}',
    b'{"a":Infinity}',
    b'{"a":-Infinity}',
    b'{"a":1e400}',
    b'{"a":' + b"9" * 400 + b"}",
    b'{"a":True}',
    b'{"a":nul}',
    b'{"a":undefined}',
    b'{"a":"\\x41"}',
    b'{"a":"\\u12"}',
    b'{"a":"\\ud800"}',  # a lone surrogate
    b'{"a":"\\ude04\\ud83d"}',  # a pair the wrong way round
    b'{"a":"\xff"}',
    b'{"a":"\xc0\x80"}',  # an overlong NUL
    b'{"a":"\xed\xa0\x80"}',  # a surrogate in UTF-8
    b'{"a":"\xe2\x82"}',  # cut off
    b'{"a":"tab\there"}',
    b'{"a":"line\nbreak"}',
    b'{"a":"\x00"}',
    b'{"a":1}\x00',
    b'{"a":"open}',
    b"\xef\xbb\xbf{}",  # a byte order mark
    '{"a":1}'.encode("utf-16"),
    '{"a":1}'.encode("utf-32-le"),
    b'{"a":\xc2\xa01}',  # a space that JSON does not know
    b"\x0c{}",
    b'{"a":1;"b":2}',
    b"<a/>",
    b"a=1&b=2",
    b'{"a":' + b"[" * 100_000,
    b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}",
]


@pytest.mark.parametrize("body", TAKEN_JSON, ids=repr)
def test_json_is_taken(body: bytes):
    assert answer(body, most_bytes=1 << 20).status == 202


@pytest.mark.parametrize("body", REFUSED_JSON, ids=lambda body: repr(body[:40]))
def test_what_is_no_json_object_is_refused(body: bytes):
    intake = Intake()
    reply = answer(body, intake=intake, most_bytes=1 << 20)
    assert reply.status == 400
    assert list(reply.json["errors"]) == ["body"]
    assert not intake.seen


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC), "2026-01-02T03:04:05.000006Z"),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02T03:04:05.000000Z"),
        (datetime(2026, 1, 2, 1, tzinfo=timezone(timedelta(hours=2))), "2026-01-01T23:00:00.000000Z"),
    ],
)
def test_timestamps_are_utc_with_microseconds(moment: datetime, text: str):
    assert moments.as_text(moment) == text
