"""Cancelling an attempt leaves nothing behind: no task, no connection, no place taken."""

import asyncio
import errno
import socket
import threading
import time
from pathlib import Path

import pytest

from delivery import transport
from delivery.outcome import Reason
from tests.delivery import sending
from tests.receivers import Answer


async def silent(reader, writer):
    await reader.read()


async def dripping(reader, writer):
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(1000):
        writer.write(b"x")
        await asyncio.sleep(0.05)


def sockets():
    links = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            links.append(str(entry.readlink()))
        except FileNotFoundError:
            continue  # the listing's own
    return sum(link.startswith("socket:") for link in links)


STAGES = [
    ("while resolving", {"host": "slow.site.com"}),
    ("while waiting for the answer", {"on_request": silent}),
    ("while reading the answer", {"on_request": dripping}),
    ("while writing the request", {"on_connect": silent, "size": 16 << 20}),
    ("while shaking hands", {"on_connect": silent, "scheme": "https"}),
]


@pytest.mark.slow
@pytest.mark.parametrize("stage", [row[1] for row in STAGES], ids=[row[0] for row in STAGES])
def test_a_cancelled_attempt_leaves_nothing_behind(receiver, loop, stage):
    release = threading.Event()

    def lookup(host):
        if host.startswith("slow"):
            release.wait(10)
        return ["127.0.0.1"]

    receiver.on("/stage", stage.get("on_request", Answer(200)))
    url = receiver.url("/stage", host=stage.get("host", "fine.site.com"))
    url = url.replace("http:", stage.get("scheme", "http") + ":")
    body = b'{"a": "' + b"x" * stage.get("size", 10) + b'"}'

    async def work():
        async with sending.sender(connections=1, lookup=lookup) as sender:
            before = sockets()
            receiver.on_connect = stage.get("on_connect")
            target = sending.target(url, timeout_seconds=10)
            task = asyncio.create_task(sender.send(sending.message(body=body), target, now=time.time()))
            await asyncio.sleep(0.3)
            started = time.monotonic()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert time.monotonic() - started < 0.2
            release.set()
            await asyncio.sleep(0.2)
            receiver.hang_up()
            assert asyncio.all_tasks() == {asyncio.current_task()}
            assert sockets() <= before
            receiver.on_connect = None
            healthy = sending.target(receiver.url("/hook"), timeout_seconds=2)
            return await sender.send(sending.message(), healthy, now=time.time())

    try:
        assert sending.in_loop(work, loop=loop).delivered
    finally:
        release.set()


def test_closing_the_sender_closes_kept_connections(receiver, loop):
    before = sockets()
    assert sending.send(receiver.url(), loop=loop).delivered
    receiver.hang_up()
    assert sockets() <= before


def test_attempts_beyond_the_limit_wait_without_losing_their_time(receiver):
    receiver.on("/hook", Answer(200, delay=0.3))

    async def work():
        async with sending.sender(connections=2) as sender:
            target = sending.target(receiver.url("/hook"), timeout_seconds=1.0)
            sends = (sender.send(sending.message(), target, now=time.time()) for _ in range(8))
            return await asyncio.gather(*sends)

    outcomes = sending.in_loop(work)
    assert [outcome.reason for outcome in outcomes] == [Reason.DELIVERED] * 8
    assert all(outcome.duration_us < 1_000_000 for outcome in outcomes)
    assert receiver.connections == 2


def test_an_aborted_exchange_does_not_hurt_the_next_one_on_the_pool(receiver, loop):
    """An answer just over the cap may be complete, and its connection another's, before it is refused."""
    receiver.on("/large", Answer(200, b"x" * (270 * 1024)))

    async def work():
        async with sending.sender(connections=8) as sender:

            async def send(path):
                target = sending.target(receiver.url(path))
                return await sender.send(sending.message(), target, now=time.time())

            return await asyncio.gather(*(send(path) for _ in range(100) for path in ("/large", "/hook")))

    outcomes = sending.in_loop(work, loop=loop)
    assert {outcome.reason for outcome in outcomes[::2]} == {Reason.TOO_LARGE}
    assert {outcome.reason for outcome in outcomes[1::2]} == {Reason.DELIVERED}


def test_running_out_of_descriptors_is_a_failed_attempt_not_a_crash(receiver, loop, monkeypatch):
    def exhausted(self, info):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("delivery.transport._Connector._open_socket", exhausted)
    outcome = sending.send(receiver.url(), loop=loop)
    assert (outcome.reason, outcome.detail) == (Reason.REFUSED, "no connection: Too many open files")


def test_an_error_of_our_own_is_an_outcome_and_a_line_in_the_log(receiver, monkeypatch, caplog):
    def broken(*_args, **_options):
        raise RecursionError

    monkeypatch.setattr("delivery.message.compose", broken)
    outcome = sending.send(receiver.url())
    assert (outcome.reason, outcome.detail) == (Reason.PROTOCOL, "unexpected RecursionError")
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_what_closed_by_itself_can_still_be_dropped(loop):
    """A graceful close that had something left to write: asyncio's transport survives no abort after it."""

    async def work():
        ours, theirs = socket.socketpair()
        with theirs:
            here = asyncio.get_running_loop()
            _, protocol = await here.create_connection(lambda: transport._Protocol(loop=here), sock=ours)
            protocol.transport.write(b"x" * (1 << 20))
            protocol.close()
            theirs.settimeout(5)
            await asyncio.to_thread(lambda: all(iter(lambda: theirs.recv(1 << 16), b"")))
            await asyncio.sleep(0.05)
            protocol.drop()

    sending.in_loop(work, loop=loop)
