"""What leaves the machine is what was composed and signed, byte for byte."""

import time

import pytest
from standardwebhooks import Webhook

from delivery import signature
from tests.delivery import sending

TARGETS = [
    ("/hook", "a plain path"),
    ("/a%2Fb%2fc/%7Euser", "escapes, in either case"),
    ("/a/../b/./c//d", "dots and empty segments"),
    ("/?q=%41+b&&=&x[]=1&y=a%20b;c", "an odd query"),
    ("/~!$&'()*+,;=:@-._", "all that needs no escape"),
]


@pytest.mark.parametrize(("path", "why"), TARGETS, ids=[row[1] for row in TARGETS])
@pytest.mark.parametrize("method", ["POST", "GET", "PUT", "PATCH", "DELETE"])
def test_the_request_line_is_what_was_saved(receiver, method, path, why):
    assert sending.send(receiver.url(path), method=method).delivered
    (seen,) = receiver.seen
    expected = path + ("&" if "?" in path else "?") + "n=1" if method == "GET" else path
    assert (seen.method, seen.target) == (method, expected), why
    assert seen.body == (b"" if method == "GET" else b'{"n": 1}')


def test_a_receiver_verifies_the_body_it_read(receiver):
    assert sending.send(receiver.url("/hook")).delivered
    (seen,) = receiver.seen
    webhook = Webhook(signature.format_secret(sending.SECRET))
    assert webhook.verify(seen.body, seen.headers) == {"n": 1}


def test_a_receiver_verifies_the_query_it_read(receiver):
    assert sending.send(receiver.url("/hook?own=%2f&b=a%20b"), method="GET").delivered
    (seen,) = receiver.seen
    assert seen.query == "own=%2f&b=a%20b&n=1"
    Webhook(signature.format_secret(sending.SECRET)).verify(seen.query, seen.headers, json_parse=False)


def test_the_headers_are_ours_the_destinations_and_no_others(receiver):
    headers = (("APP_ID", "1234APPID1234"), ("ACTION", "user.update"), ("Accept", "*/*"))
    assert sending.send(receiver.url("/hook"), headers=headers).delivered
    (seen,) = receiver.seen
    assert sorted(name for name, _ in seen.header_list) == [
        "ACTION", "APP_ID", "Accept", "Accept-Encoding", "CL-X-ATTEMPT", "CL-X-EVENT-ID", "Content-Length",
        "Content-Type", "Host", "User-Agent", "webhook-id", "webhook-signature", "webhook-timestamp",
    ]  # fmt: skip
    assert seen.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert seen.headers["app_id"] == "1234APPID1234"
    assert seen.headers["content-length"] == "8"


def test_a_get_has_neither_body_nor_length(receiver):
    assert sending.send(receiver.url("/hook"), method="GET").delivered
    assert not {"content-length", "content-type", "transfer-encoding"} & set(receiver.seen[0].headers)


def test_the_timestamp_is_the_databases(receiver):
    async def work():
        async with sending.sender() as sender:
            return await sender.send(sending.message(), sending.target(receiver.url()), now=1_700_000_000.9)

    assert sending.in_loop(work).delivered
    assert receiver.seen[0].headers["webhook-timestamp"] == "1700000000"


@pytest.mark.parametrize("size", [64 * 1024 - 1, 64 * 1024 + 1, 1 << 20, 5 << 20])
def test_a_large_event_arrives_whole(receiver, loop, size):
    body = (b'{"a": "' + b"x" * size)[: size - 2] + b'"}'

    async def work():
        async with sending.sender() as sender:
            message = sending.message(body=body)
            return await sender.send(
                message, sending.target(receiver.url(), timeout_seconds=10), now=time.time()
            )

    assert sending.in_loop(work, loop=loop).delivered
    assert receiver.seen[0].body == body


def test_an_outcome_knows_peer_status_and_duration(receiver):
    started = time.perf_counter_ns()
    outcome = sending.send(receiver.url())
    longest = (time.perf_counter_ns() - started) // 1000
    assert (outcome.status, outcome.address, outcome.detail) == (200, "127.0.0.1", "")
    assert isinstance(outcome.duration_us, int)
    assert 0 < outcome.duration_us <= longest
