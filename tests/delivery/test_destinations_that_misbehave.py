"""Each way to misbehave is one failed attempt with a clear reason, on time, and harms nobody else."""

import asyncio
import socket
import struct
import time
import tracemalloc
import zlib

import pytest

from delivery import transport
from delivery.outcome import Reason
from tests.delivery import sending
from tests.delivery.certificates import Authority
from tests.receivers import Answer, Receiver

TIMEOUT = 0.4
SLACK = 1.0
HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certificates"))


def raw(*pieces, pause=0.0, close=True):
    """A script that says these pieces, with pauses."""

    async def script(reader, writer):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)
        if close:
            writer.close()

    return script


def slowly(text, pause=0.1):
    return raw(*(bytes((byte,)) for byte in text), pause=pause)


def endlessly(head, piece):
    async def script(reader, writer):
        writer.write(head)
        await asyncio.sleep(0.05)  # so that the head is read by itself
        while True:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)  # a lost TLS connection is noticed only by a loop that gets its turn

    return script


async def silent(reader, writer):
    await asyncio.sleep(60)


async def reset(reader, writer):
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


async def half_closed(reader, writer):
    writer.write_eof()
    await asyncio.sleep(60)


async def reads_a_part(reader, writer):
    await reader.readexactly(50)
    writer.close()


def bomb(megabytes):
    """So many megabytes in as many kilobytes: after a full flush no block depends on what was before."""
    packer = zlib.compressobj(9, wbits=31)
    first, again = (packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    return first + again * (megabytes - 1)


def chunked(piece):
    return b"%x\r\n%s\r\n" % (len(piece), piece)


BOMB = bomb(400)
NULS = b"\x00" * 5000
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
LONG = HEAD + b"Content-Length: %d\r\n\r\n" % (10 << 30)
PIECE = b"x" * 65536
INTERIM = b"HTTP/1.1 103 Early\r\n\r\n"

MISBEHAVIOUR = [
    ("never answers", silent, Reason.TIMEOUT, None),
    ("answers too late", Answer(200, delay=TIMEOUT + 2), Reason.TIMEOUT, None),
    ("status line byte by byte", slowly(HEAD), Reason.TIMEOUT, None),
    ("headers byte by byte", slowly(HEAD + b"X-A: " + b"b" * 99, 0.02), Reason.TIMEOUT, None),
    ("body byte by byte", raw(LONG, *[b"x"] * 99, pause=0.1), Reason.TIMEOUT, 200),
    ("chunks byte by byte", raw(CHUNKED, *[chunked(b"x")] * 99, pause=0.1), Reason.TIMEOUT, 200),
    ("body never ends, no length", endlessly(HEAD + b"\r\n", PIECE), Reason.TOO_LARGE, 200),
    ("body never ends, in chunks", endlessly(CHUNKED, chunked(PIECE)), Reason.TOO_LARGE, 200),
    ("10 GB body", endlessly(LONG, PIECE), Reason.TOO_LARGE, 200),
    ("chunk extension never ends", endlessly(CHUNKED + b"5;", PIECE), Reason.TOO_LARGE, 200),
    ("trailers never end", endlessly(CHUNKED + b"0\r\n", b"X-A: b\r\n" * 4096), Reason.TOO_LARGE, 200),
    ("a body just over the cap", Answer(200, b"x" * (transport.BODY_BYTES + 1)), Reason.TOO_LARGE, 200),
    ("gzip bomb", Answer(200, BOMB, {"Content-Encoding": "gzip"}), Reason.TOO_LARGE, 200),
    ("header of 1 MB", raw(HEAD + b"X-A: " + b"a" * (1 << 20) + b"\r\n\r\n"), Reason.TOO_LARGE, None),
    ("header that never ends", endlessly(HEAD + b"X-A: ", PIECE), Reason.TOO_LARGE, None),
    ("10,000 headers", raw(HEAD + b"X-A: b\r\n" * 10_000 + b"\r\n"), Reason.TOO_LARGE, None),
    ("headers never end", endlessly(HEAD, b"X-A: b\r\n" * 100), Reason.TOO_LARGE, None),
    ("a status line that never ends", endlessly(b"HTTP/1.1 200 ", PIECE), Reason.TOO_LARGE, None),
    ("interim answers never end", endlessly(b"", INTERIM * 500), Reason.TOO_LARGE, None),
    ("closes after reading", raw(), Reason.RESET, None),
    ("closes in the status line", raw(b"HTTP/1.1 2"), Reason.RESET, None),
    ("closes in the headers", raw(HEAD + b"Content-Le"), Reason.RESET, None),
    ("closes in the body", raw(HEAD + b"Content-Length: 99\r\n\r\nabc"), Reason.RESET, 200),
    ("closes in a chunk", raw(CHUNKED + b"5\r\nab"), Reason.RESET, 200),
    ("closes between chunks", raw(CHUNKED + chunked(b"ab")), Reason.RESET, 200),
    ("resets after reading", reset, Reason.RESET, None),
    ("closes its half", half_closed, Reason.RESET, None),
    ("invalid status line", raw(b"HTTP/1.1 abc OK\r\n\r\n"), Reason.PROTOCOL, None),
    ("no status", raw(b"HTTP/1.1\r\n\r\n"), Reason.PROTOCOL, None),
    ("a status of two digits", raw(b"HTTP/1.1 20 OK\r\n\r\n"), Reason.PROTOCOL, None),
    ("another protocol", raw(b"SSH-2.0-OpenSSH_9.9\r\n"), Reason.PROTOCOL, None),
    ("HTTP/0.9", raw(b"<html>hello</html>\n"), Reason.PROTOCOL, None),
    ("HTTP/2", raw(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00d"), Reason.PROTOCOL, None),
    ("a TLS alert", raw(b"\x15\x03\x01\x00\x02\x02\x46"), Reason.PROTOCOL, None),
    ("a request", raw(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), Reason.PROTOCOL, None),
    ("two lengths", raw(HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc"), Reason.PROTOCOL, None),
    ("length and chunks", raw(HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
     Reason.PROTOCOL, None),
    ("a length that is no number", raw(HEAD + b"Content-Length: many\r\n\r\n"), Reason.PROTOCOL, None),
    ("a length below nothing", raw(HEAD + b"Content-Length: -1\r\n\r\n"), Reason.PROTOCOL, None),
    ("a chunk that is no number", raw(CHUNKED, b"zz\r\n\r\n", pause=0.05), Reason.PROTOCOL, 200),
    ("NUL in a header", raw(HEAD + b"X-A: a\x00b\r\n\r\n"), Reason.PROTOCOL, None),
    ("only NULs", raw(NULS), Reason.PROTOCOL, None),
    ("switches protocols", raw(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nabc"),
     Reason.PROTOCOL, 101),
    ("a status of no class", raw(b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n"), Reason.PROTOCOL, 999),
    ("NULs in the body", Answer(500, NULS), Reason.SERVER_ERROR, 500),
    ("an unreadable reason phrase", raw(b"HTTP/1.1 500 \xe9\xff\x80\r\nContent-Length: 0\r\n\r\n"),
     Reason.SERVER_ERROR, 500),
    ("an unreadable header", raw(HEAD[:9] + b"404 No\r\nRetry-After: \xff\xfe\r\nContent-Length: 0\r\n\r\n"),
     Reason.CLIENT_ERROR, 404),
    ("redirects to a private address", Answer(302, headers={"Location": "http://169.254.169.254/"}),
     Reason.REDIRECT, 302),
    ("redirects to itself", Answer(307, headers={"Location": "/hook"}), Reason.REDIRECT, 307),
]  # fmt: skip


@pytest.mark.parametrize(
    ("script", "reason", "status"), [row[1:] for row in MISBEHAVIOUR], ids=[row[0] for row in MISBEHAVIOUR]
)
def test_one_failed_attempt_with_a_clear_reason_on_time(receiver, loop, script, reason, status):
    deadline = TIMEOUT if reason is Reason.TIMEOUT else 3.0  # a busy machine must not change the reason
    receiver.on("/hook", script)
    started = time.monotonic()
    outcome = sending.send(receiver.url("/hook"), loop=loop, timeout_seconds=deadline)
    assert time.monotonic() - started < deadline + SLACK
    assert (outcome.reason, outcome.status) == (reason, status), outcome.detail
    assert outcome.duration_us < (deadline + SLACK) * 1e6
    assert outcome.detail
    assert outcome.address == "127.0.0.1"
    assert len(receiver.seen) == 1
    assert receiver.connections == 1


EARLY = [
    ("closes at once", raw(), Reason.RESET),
    ("resets at once", reset, Reason.RESET),
    ("closes while it reads", reads_a_part, Reason.RESET),
    ("closes its half at once", half_closed, Reason.RESET),
    ("reads nothing, says nothing", silent, Reason.TIMEOUT),
    ("says no to TLS", raw(b"\x15\x03\x01\x00\x02\x02\x28"), Reason.PROTOCOL),
]


@pytest.mark.parametrize(("script", "reason"), [row[1:] for row in EARLY], ids=[row[0] for row in EARLY])
@pytest.mark.parametrize("size", [100, 8 << 20])
def test_a_destination_that_does_not_read_is_one_failed_attempt(receiver, loop, script, reason, size):
    deadline = TIMEOUT if reason is Reason.TIMEOUT else 3.0
    receiver.on_connect = script
    body = b'{"a": "' + b"x" * size + b'"}'

    async def work():
        async with sending.sender() as sender:
            target = sending.target(receiver.url("/hook"), timeout_seconds=deadline)
            return await sender.send(sending.message(body=body), target, now=time.time())

    started = time.monotonic()
    outcome = sending.in_loop(work, loop=loop)
    assert time.monotonic() - started < deadline + SLACK
    # Whether the close, its reset or the alert is noticed first is the kernel's choice.
    expected = {reason, Reason.RESET} if reason is Reason.PROTOCOL else {reason}
    assert outcome.reason in expected, outcome.detail
    assert receiver.connections == 1


def test_an_answer_before_the_whole_request_was_read_counts(receiver):
    receiver.on_connect = raw(Answer(413, close=True).to_bytes(), close=False, pause=0.3)
    outcome = sending.send(receiver.url("/hook"))
    assert (outcome.reason, outcome.status) == (Reason.CLIENT_ERROR, 413)


FIFTEEN = 0.75  # seconds, the default deadline: a twentieth of it, and of all that follows


@pytest.mark.slow
@pytest.mark.parametrize(
    ("delay", "reason"), [(5, Reason.DELIVERED), (20, Reason.TIMEOUT), (60, Reason.TIMEOUT)]
)
def test_an_answer_counts_until_the_deadline_and_not_after_it(receiver, loop, delay, reason):
    receiver.on("/hook", Answer(200, delay=delay * FIFTEEN / 15))
    outcome = sending.send(receiver.url("/hook"), loop=loop, timeout_seconds=FIFTEEN)
    assert outcome.reason is reason
    assert outcome.duration_us < (FIFTEEN + SLACK) * 1e6


SEALED = (
    "byte by byte",
    "closes in",
    "resets",
    "never end",
    "10 GB",
    "bomb",
    "1 MB",
    "10,000",
    "two lengths",
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "reason", "status"),
    [row[1:] for row in MISBEHAVIOUR if any(part in row[0] for part in SEALED)],
    ids=[row[0] for row in MISBEHAVIOUR if any(part in row[0] for part in SEALED)],
)
def test_it_is_the_same_over_tls(authority, loop, script, reason, status):
    deadline = TIMEOUT if reason is Reason.TIMEOUT else 3.0
    options = {"tls": authority.trusting(), "lookup": lambda _: ["127.0.0.1"]}
    with Receiver(tls=authority.server("hooks.site.com")) as receiver:
        receiver.on("/hook", script)
        url = receiver.url("/hook", host="hooks.site.com")
        outcome = sending.send(url, loop=loop, options=options, timeout_seconds=deadline)
        assert (outcome.reason, outcome.status) == (reason, status), outcome.detail
        assert outcome.duration_us < (deadline + SLACK) * 1e6
        assert len(receiver.seen) == receiver.connections == 1


def test_nobody_listening_is_refused():
    with Receiver() as gone:
        url = gone.url("/hook")
    outcome = sending.send(url)
    assert (outcome.reason, outcome.status, outcome.address) == (Reason.REFUSED, None, "127.0.0.1")
    assert "refused" in outcome.detail.lower()


def test_a_full_backlog_is_a_timeout_in_the_connect_limit(monkeypatch):
    monkeypatch.setattr("delivery.transport.CONNECT_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        try:
            outcome = sending.send(f"http://127.0.0.1:{port}/", timeout_seconds=5)
        finally:
            for filler in fillers:
                filler.close()
    assert outcome.reason is Reason.TIMEOUT
    assert outcome.duration_us < 2_000_000


def test_a_small_gzip_body_is_not_unpacked(receiver):
    packed = bomb(20)
    receiver.on("/hook", Answer(200, packed, {"Content-Encoding": "gzip"}))
    assert len(packed) < 64 * 1024
    assert sending.send(receiver.url("/hook")).delivered


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        (Answer(429, headers={"Retry-After": "7"}), 7),
        (Answer(503, headers={"Retry-After": "999999"}), 86_400),
        (Answer(503, headers={"Retry-After": "\x01soon"}), None),
        (Answer(500, headers={"Retry-After": "7"}), None),  # only 429 and 503 may ask
        (Answer(200, headers={"Retry-After": "7"}), None),
    ],
)
def test_retry_after_is_read_where_it_counts(receiver, answer, seconds):
    receiver.on("/hook", answer)
    assert sending.send(receiver.url("/hook")).retry_after_seconds == seconds


def test_nothing_that_a_destination_says_gets_into_the_outcome(receiver):
    """It may repeat a header's secret, or the event, which must stay erasable."""
    canary = "canary-7391"
    echoes = [
        Answer(500, canary.encode(), {"X-Echo": canary, "Location": canary}),
        raw(f"HTTP/1.1 500 {canary}\r\nContent-Length: 0\r\n\r\n".encode()),
        raw(f"HTTP/1.1 {canary}\r\n\r\n".encode()),
        raw(HEAD + f"{canary}\x00: a\r\n\r\n".encode()),
        raw(HEAD + b"X-A: " + canary.encode() * 5000 + b"\r\n\r\n"),
        raw(CHUNKED + canary.encode() + b"\r\n"),
        Answer(302, headers={"Location": f"http://{canary}/"}),
    ]
    receiver.on("/hook", *echoes)
    for _ in echoes:
        outcome = sending.send(receiver.url("/hook?key=" + canary), headers=(("X-Key", canary),))
        assert not outcome.delivered
        assert canary not in repr(outcome)


BAD = [row[1] for row in MISBEHAVIOUR if row[2] in (Reason.TOO_LARGE, Reason.PROTOCOL, Reason.TIMEOUT)]


@pytest.mark.slow
def test_other_destinations_are_undisturbed(loop):
    """While every misbehaviour goes on at once, a healthy destination is served as ever."""

    async def work():
        async with sending.sender(connections=256) as sender:

            async def send(url):
                target = sending.target(url, timeout_seconds=1.5)
                return await sender.send(sending.message(), target, now=time.time())

            troubles = [
                asyncio.create_task(send(bad.url(f"/{n}"))) for n in range(len(BAD)) for _ in range(2)
            ]
            outcomes = []
            for _ in range(20):
                outcomes += await asyncio.gather(*(send(good.url("/hook")) for _ in range(5)))
                await asyncio.sleep(0.02)
            return outcomes, await asyncio.gather(*troubles)

    with Receiver() as good, Receiver() as bad:
        for number, script in enumerate(BAD):
            bad.on(f"/{number}", script)
        outcomes, troubles = sending.in_loop(work, loop=loop)
    assert [outcome for outcome in outcomes if not outcome.delivered] == []
    assert [outcome for outcome in troubles if outcome.delivered] == []
    durations = sorted(outcome.duration_us for outcome in outcomes)
    assert durations[len(durations) // 2] < 500_000


LARGE = [row[1] for row in MISBEHAVIOUR if row[2] is Reason.TOO_LARGE]
LARGE += [
    endlessly(HEAD, b"X-A: " + b"a" * 8000 + b"\r\n"),
    raw(HEAD + b"".join(b"X-%d: " % n + b"a" * 16_000 + b"\r\n" for n in range(64)) + b"\r\n"),
]


@pytest.mark.slow
def test_memory_stays_flat_whatever_is_too_large(receiver):
    for number, script in enumerate(LARGE):
        receiver.on(f"/{number}", script)

    async def work():
        async with sending.sender() as sender:

            async def send(number):
                target = sending.target(receiver.url(f"/{number}"), timeout_seconds=10)
                return await sender.send(sending.message(), target, now=time.time())

            return await asyncio.gather(*(send(number) for number in range(len(LARGE)) for _ in range(3)))

    sending.in_loop(work)  # caches, imports
    tracemalloc.start()
    try:
        outcomes = sending.in_loop(work)
        left, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert {outcome.reason for outcome in outcomes} == {Reason.TOO_LARGE}
    assert peak < 48 << 20  # 3 of each at once, with the receiver's own buffers
    assert left < 4 << 20
