"""What does the real server do with what clients really send? Granian, real sockets, an intake of straw."""

import dataclasses
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from accounts import tokens
from tests.api import servers
from tests.api.servers import Wire

TOKEN = tokens.make().text
GOOD = (
    "POST /server/incoming_data HTTP/1.1",
    "Host: localhost",
    f"CL-X-TOKEN: {TOKEN}",
    "CL-X-EVENT-ID: e1",
    "Content-Type: application/json",
)


@dataclasses.dataclass(frozen=True)
class Server:
    port: int
    book: Path
    process: subprocess.Popen[str]

    def accepted(self) -> list[str]:
        lines = self.book.read_text().splitlines()
        return [line for line in lines if line not in {"started", "stopped"}]


def _served(folder: Path) -> Iterator[Server]:
    port, book = servers.free_port(), folder / "book"
    argv = servers.granian("tests.api.served:application", port)
    with servers.running(argv, port, environment={**os.environ, "BOOK": str(book)}) as process:
        yield Server(port, book, process)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from _served(tmp_path_factory.mktemp("served"))


@pytest.fixture
def server(shared: Server) -> Server:
    shared.book.write_text("")
    return shared


@pytest.fixture
def wire(server: Server) -> Iterator[Wire]:
    made = Wire(server.port)
    yield made
    made.close()


def test_an_event_is_accepted(server: Server, wire: Wire):
    wire.say(*GOOD, "Content-Length: 7", body=b'{"a":1}')
    reply = wire.hear()
    assert reply is not None
    assert reply.status == 202
    assert reply.json["event"]["id"] == "00000000-0000-0000-0000-000000000007"
    assert server.accepted() == ["e1 7"]


@pytest.mark.parametrize(
    "path", ["/server/incoming_data/", "/server/incoming_data?token=x", "/server/incoming%5Fdata"]
)
def test_a_slash_more_or_a_query_is_no_reason_to_lose_an_event(wire: Wire, path: str):
    wire.say(f"POST {path} HTTP/1.1", *GOOD[1:], "Content-Length: 2", body=b"{}")
    reply = wire.hear()
    assert reply is not None
    assert reply.status == 202


def test_a_body_in_two_packets_is_put_together(server: Server, wire: Wire):
    wire.say(*GOOD, "Content-Length: 7", body=b'{"a')
    time.sleep(0.05)
    wire.send(b'":1}')
    reply = wire.hear()
    assert reply is not None
    assert reply.status == 202
    assert server.accepted() == ["e1 7"]


def test_a_large_body_arrives_whole(server: Server, wire: Wire):
    body = b'{"a":"' + b"x" * 99_000 + b'"}'
    wire.say(*GOOD, f"Content-Length: {len(body)}", body=body)
    reply = wire.hear()
    assert reply is not None
    assert reply.status == 202
    assert server.accepted() == [f"e1 {len(body)}"]


def test_chunks_without_a_length_are_411(server: Server, wire: Wire):
    wire.say(*GOOD, "Transfer-Encoding: chunked", body=b"2\r\n{}\r\n0\r\n\r\n")
    reply = wire.hear()
    assert reply is not None
    assert (reply.status, reply.headers["connection"]) == (411, "close")
    assert wire.closed()
    assert not server.accepted()


SMUGGLED = b"0\r\n\r\nPOST /server/incoming_data HTTP/1.1\r\n"


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: 2", "Content-Length: 3"],
        ["Content-Length: 2, 2"],
        ["Content-Length: -2"],
        ["Content-Length: +2"],
        ["Content-Length: 0x2"],
        ["Content-Length: 2", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "Content-Length: 2"],
        ["Transfer-Encoding: xchunked"],
        ["Transfer-Encoding: chunked, identity"],
        ["Transfer-Encoding: identity", "Content-Length: 2"],
        [" Content-Length: 2"],
        ["Content-Length : 2"],
    ],
)
def test_a_length_that_reads_in_two_ways_is_never_accepted(server: Server, wire: Wire, lines: list[str]):
    wire.say(*GOOD, *lines, body=b"{}")
    reply = wire.hear()
    assert reply is None or reply.status in {400, 411}
    assert not server.accepted()


def test_nothing_is_smuggled_behind_a_length_beside_chunks(server: Server, wire: Wire):
    second = "\r\n".join([*GOOD, "Content-Length: 2", "", "{}"]).encode()
    body = b"0\r\n\r\n" + second
    wire.say(*GOOD, f"Content-Length: {len(body)}", "Transfer-Encoding: chunked", body=body)
    reply = wire.hear()
    assert reply is None or reply.status in {400, 411}
    time.sleep(0.1)
    assert not server.accepted()


def test_who_expects_100_continue_gets_it_and_then_the_answer(server: Server, wire: Wire):
    wire.say(*GOOD, "Content-Length: 2", "Expect: 100-continue")
    reply = wire.hear()
    assert reply is not None
    assert reply.status == 100
    wire.send(b"{}")
    reply = wire.hear()
    assert reply is not None
    assert reply.status == 202


def test_who_is_refused_by_the_headers_is_not_told_to_continue(wire: Wire):
    lines = [line for line in GOOD if not line.startswith("CL-X-TOKEN")]
    wire.say(*lines, "Content-Length: 2", "Expect: 100-continue")
    reply = wire.hear()
    assert reply is not None
    assert reply.status == 401


@pytest.mark.parametrize(
    ("broken", "status"),
    [("CL-X-TOKEN", 401), ("CL-X-EVENT-ID", 400), ("Content-Type", 415)],
)
def test_a_connection_is_used_again_after_a_refusal(server: Server, wire: Wire, broken: str, status: int):
    for _ in range(3):
        lines = [line for line in GOOD if not line.startswith(broken)]
        wire.say(*lines, "Content-Length: 2", body=b"{}")
        refused = wire.hear()
        assert refused is not None
        assert refused.status == status
        wire.say(*GOOD, "Content-Length: 2", body=b"{}")
        reply = wire.hear()
        assert reply is not None
        assert reply.status == 202
    assert len(server.accepted()) == 3


def test_requests_sent_ahead_are_answered_in_order(server: Server, wire: Wire):
    one = "\r\n".join([*GOOD, "Content-Length: 2", "", "{}"]).encode()
    wire.send(one + one.replace(b"{}", b"[]") + one)
    replies = [wire.hear() for _ in range(3)]
    assert [reply and reply.status for reply in replies] == [202, 400, 202]


def test_http_1_0_is_answered(server: Server, wire: Wire):
    wire.say(GOOD[0].replace("1.1", "1.0"), *GOOD[1:], "Content-Length: 2", body=b"{}")
    reply = wire.hear()
    assert reply is not None
    assert reply.status == 202
    assert wire.closed()


@pytest.mark.slow
def test_a_body_that_stalls_is_408_and_the_connection_ends(server: Server, wire: Wire):
    wire.say(*GOOD, "Content-Length: 100", body=b'{"a":')
    reply = wire.hear()
    assert reply is not None
    assert (reply.status, reply.headers["connection"]) == (408, "close")
    assert wire.closed()
    assert not server.accepted()


@pytest.mark.slow
def test_a_body_that_drips_is_408_too(server: Server, wire: Wire):
    wire.say(*GOOD, "Content-Length: 100")
    began = time.monotonic()
    for _ in range(15):
        try:
            wire.send(b"{")
        except OSError:
            break
        time.sleep(0.1)
    reply = wire.hear()
    assert reply is None or reply.status == 408
    assert time.monotonic() - began < 3
    assert not server.accepted()


def test_who_shuts_half_the_connection_before_the_body_ends_is_told_400(server: Server, wire: Wire):
    wire.say(*GOOD, "Content-Length: 100", body=b'{"a":')
    wire.shut()
    reply = wire.hear()
    assert reply is not None
    assert (reply.status, list(reply.json["errors"])) == (400, ["Content-Length"])
    assert not server.accepted()


def test_a_client_that_goes_in_the_middle_leaves_nothing(server: Server):
    for _ in range(5):
        wire = Wire(server.port)
        wire.say(*GOOD, "Content-Length: 100", body=b'{"a":')
        wire.close()
    time.sleep(0.1)
    assert not server.accepted()


def test_too_large_is_413_before_the_body_comes(server: Server, wire: Wire):
    wire.say(*GOOD, "Content-Length: 100001")
    reply = wire.hear()
    assert reply is not None
    assert (reply.status, reply.headers["connection"]) == (413, "close")
    assert wire.closed()


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"])
def test_other_methods_are_405(server: Server, method: str):
    wire = Wire(server.port)
    wire.say(GOOD[0].replace("POST", method), *GOOD[1:], "Connection: close")
    reply = wire.hear() if method != "HEAD" else None
    if reply is not None:
        assert (reply.status, reply.headers["allow"]) == (405, "POST")
        assert reply.json["success"] is False
    wire.close()


def test_a_token_twice_is_401(wire: Wire):
    wire.say(*GOOD, f"cl-x-token: {TOKEN}", "Content-Length: 2", body=b"{}")
    reply = wire.hear()
    assert reply is not None
    assert reply.status == 401


@pytest.mark.parametrize("line", ["X: " + "y" * 9000, "\r\n".join(f"X-{number}: y" for number in range(150))])
def test_long_and_many_headers_are_answered(server: Server, wire: Wire, line: str):
    wire.say(*GOOD, line, "Content-Length: 2", body=b"{}")
    reply = wire.hear()
    assert reply is not None
    assert reply.status in {202, 431}
    assert len(server.accepted()) == (reply.status == 202)


# --- Django behind the bridge ------------------------------------------------------------------------------

KINDS = [
    *(
        f"x; charset={name}"
        for name in ("hex", "zlib", "base64", "rot13", "idna", "undefined", "utf-16", "no")
    ),
    'application/json; Charset="hex"',
    "x; charset*=utf-8''hex",
    "x; charset*=idna''%ff",
    "x; a*=nothing''x",
    "x;" + " a=b;" * 2500,  # longer than Django reads
]


def test_django_sees_the_request_as_it_came(wire: Wire):
    wire.say(
        "PUT /api/v1/caf%C3%A9/?a=%20b HTTP/1.1",
        "Host: example.org",
        "Content-Type: application/json",
        "X-Two: 1",
        "X-Two: 2",
        "X_Two: 3",
        "Content-Length: 4",
        body=b"body",
    )
    reply = wire.hear()
    assert reply is not None
    seen = reply.json["environ"]
    assert reply.json["body"] == "body"
    assert seen["REQUEST_METHOD"] == "PUT"
    assert seen["PATH_INFO"].encode("latin-1").decode() == "/api/v1/café/"
    assert seen["QUERY_STRING"] == "a=%20b"
    assert seen["CONTENT_TYPE"] == "application/json"
    assert seen["CONTENT_LENGTH"] == "4"
    assert seen["HTTP_HOST"] == "example.org"
    assert seen["HTTP_X_TWO"] == "1,2"
    assert seen["REMOTE_ADDR"] == "127.0.0.1"


@pytest.mark.parametrize(
    ("lines", "status", "slug"),
    [
        (["POST /api/v1/x HTTP/1.1", "Transfer-Encoding: chunked"], 411, "length-required"),
        (["POST /api/v1/x HTTP/1.1", "Content-Length: 100001"], 413, "content-too-large"),
        (["POST /api/v1/x HTTP/1.1", "Content-Length: 10"], 408, "request-timeout"),
        ([b"GET /api/v1/x?q=\xc3\xa9 HTTP/1.1"], 400, "malformed-request"),
        (["GET /crash HTTP/1.1"], 500, "internal-error"),
        *(
            (["GET /api/v1/x HTTP/1.1", f"Content-Type: {kind}"], 415, "unsupported-media-type")
            for kind in KINDS
        ),
    ],
)
def test_what_never_reaches_django_is_a_problem(wire: Wire, lines: list[str | bytes], status: int, slug: str):
    wire.say(*lines, "Host: x")
    reply = wire.hear()
    assert reply is not None
    assert reply.status == status
    if reply.body:  # a request line that is no HTTP is refused by the server itself, without one
        assert reply.headers["content-type"] == "application/problem+json"
        assert reply.json["type"].endswith(slug)
        assert reply.json["success"] is False


def test_who_shuts_half_the_connection_before_djangos_body_ends_is_told_400(wire: Wire):
    wire.say("POST /api/v1/x HTTP/1.1", "Host: x", "Content-Length: 100", body=b"{")
    wire.shut()
    reply = wire.hear()
    assert reply is not None
    assert (reply.status, reply.json["type"]) == (400, "urn:data-pusher:problem:malformed-request")


def test_a_path_can_not_forge_a_line_of_the_log(tmp_path: Path):
    for server in _served(tmp_path):
        wire = Wire(server.port)
        wire.say("GET /crash%0AFORGED HTTP/1.1", "Host: x")
        reply = wire.hear()
        assert reply is not None
        assert reply.status == 500
        wire.close()
        server.process.terminate()
        said = server.process.communicate(timeout=10)[0]
        assert "answering failed" in said
        assert "FORGED" not in said


@pytest.mark.parametrize(
    "kind", ["", "x", "application/json", "x; charset=utf-8", 'x; Charset="UTF-8"', "x; charset="]
)
def test_django_reads_utf_8(wire: Wire, kind: str):
    wire.say("GET /api/v1/x HTTP/1.1", "Host: x", f"Content-Type: {kind}")
    reply = wire.hear()
    assert reply is not None
    assert reply.status == 200


def test_a_long_answer_comes_in_portions_and_whole(wire: Wire):
    wire.say("GET /3000000 HTTP/1.1", "Host: x")
    reply = wire.hear()
    assert reply is not None
    assert reply.body == b"0" * 3_000_000


def test_clients_that_go_while_a_long_answer_is_sent_take_no_thread_along(server: Server):
    for _ in range(6):  # there are two threads
        wire = Wire(server.port)
        wire.say("GET /50000000 HTTP/1.1", "Host: x")
        wire.close()
    wire = Wire(server.port)
    wire.say("GET /api/ HTTP/1.1", "Host: x")
    reply = wire.hear()
    assert reply is not None
    assert reply.status == 200
    wire.close()


# --- ending ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_sigterm_lets_running_requests_end_and_stops_the_intake_after_them(tmp_path: Path):
    for server in _served(tmp_path):
        wire, late = Wire(server.port), Wire(server.port)
        wire.say(GOOD[0], *(line.replace("e1", "slow") for line in GOOD[1:]), "Content-Length: 2", body=b"{}")
        time.sleep(0.3)
        server.process.terminate()
        reply = wire.hear()
        assert reply is not None
        assert reply.status == 202
        server.process.wait(10)
        assert server.book.read_text().splitlines() == ["started", "slow 2", "stopped"]
        assert server.process.returncode == 0
        wire.close()
        late.close()
