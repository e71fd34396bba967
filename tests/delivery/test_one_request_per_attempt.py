"""One attempt writes at most one request, so that every sighting has its own record."""

import time

import pytest

from delivery import transport
from delivery.outcome import Reason
from tests.delivery import sending
from tests.receivers import Answer

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


async def hang_up(reader, writer):
    writer.close()


def attempts(receiver, method, *, between=None, count=2, path="/hook", **options):
    """Attempts one after another by one sender; `between` runs without giving the loop a turn."""

    async def work():
        outcomes = []
        async with sending.sender(**options) as sender:
            for number in range(count):
                if number and between:
                    between()
                target = sending.target(receiver.url(path), method=method)
                outcomes.append(await sender.send(sending.message(), target, now=time.time()))
        return outcomes

    return work


@pytest.mark.parametrize("method", METHODS)
def test_a_kept_connection_dropped_after_the_request_was_read_is_one_sighting(receiver, loop, method):
    receiver.on("/hook", Answer(200), hang_up)
    first, second = sending.in_loop(attempts(receiver, method), loop=loop)
    assert (first.reason, second.reason) == (Reason.DELIVERED, Reason.RESET)
    assert len(receiver.seen) == 2
    assert receiver.connections == 1


@pytest.mark.parametrize("method", METHODS)
def test_a_kept_connection_found_closed_before_writing_is_opened_anew(receiver, loop, method):
    outcomes = sending.in_loop(attempts(receiver, method, between=receiver.hang_up), loop=loop)
    assert [outcome.reason for outcome in outcomes] == [Reason.DELIVERED, Reason.DELIVERED]
    assert len(receiver.seen) == 2
    assert receiver.connections == 2


@pytest.mark.parametrize("method", METHODS)
def test_a_fresh_connection_dropped_after_the_request_was_read_is_one_sighting(receiver, loop, method):
    receiver.on("/hook", hang_up)
    (outcome,) = sending.in_loop(attempts(receiver, method, count=1), loop=loop)
    assert outcome.reason is Reason.RESET
    assert len(receiver.seen) == 1


def test_a_connection_that_said_something_unasked_is_not_used_again(receiver, loop):
    async def talkative(reader, writer):
        writer.write(Answer(200).to_bytes() + Answer(200, b"an answer to nothing").to_bytes())

    receiver.on("/hook", talkative, Answer(500))
    first, second = sending.in_loop(attempts(receiver, "POST"), loop=loop)
    assert (first.status, second.status) == (200, 500)
    assert receiver.connections == 2


def test_connections_are_kept_and_used_again(receiver, loop):
    outcomes = sending.in_loop(attempts(receiver, "POST", count=5), loop=loop)
    assert all(outcome.delivered for outcome in outcomes)
    assert receiver.connections == 1


def test_a_busy_connection_is_renewed_because_its_name_may_have_moved(receiver, monkeypatch):
    monkeypatch.setattr(transport, "CONNECTION_SECONDS", 0)
    sending.in_loop(attempts(receiver, "POST", count=3))
    assert receiver.connections == 3


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(receiver, status):
    receiver.on("/hook", Answer(status, headers={"Location": "/elsewhere"}))
    outcome = sending.send(receiver.url("/hook"))
    assert (outcome.reason, outcome.status) == (Reason.REDIRECT, status)
    assert [sighting.path for sighting in receiver.seen] == ["/hook"]


def test_cookies_are_not_kept(receiver):
    receiver.on("/hook", Answer(200, headers={"Set-Cookie": "session=secret; Path=/"}))
    sending.in_loop(attempts(receiver, "POST"))
    assert len(receiver.seen) == 2
    assert not any("cookie" in sighting.headers for sighting in receiver.seen)


def test_proxies_and_netrc_of_the_environment_are_ignored(receiver, monkeypatch, tmp_path):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login user password secret")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    assert sending.send(receiver.url("/hook")).delivered
    assert "authorization" not in receiver.seen[0].headers
