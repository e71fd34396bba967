"""Only addresses that the policy permits are dialled: names, answers, literals and kept connections."""

import asyncio
import socket
import threading
import time

import pytest

from delivery import transport
from delivery.outcome import Reason
from guard import urls
from guard.addresses import Policy
from tests.delivery import sending
from tests.receivers import Answer, Receiver

NAME = "hooks.site.com"


class Names:
    """A resolver that answers by script: each lookup gets the next answer, the last one repeats."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    def __call__(self, host):
        self.asked.append(host)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def send(receiver, names, *, policy=sending.LOOPBACK, **changes):
    return sending.send(
        receiver.url("/hook", host=NAME), options={"lookup": names, "policy": policy}, **changes
    )


def sends(receiver, names, count, *, host=NAME, **options):
    async def work():
        async with sending.sender(lookup=names, **options) as sender:
            target = sending.target(receiver.url("/hook", host=host))
            return [await sender.send(sending.message(), target, now=time.time()) for _ in range(count)]

    return sending.in_loop(work)


def test_a_name_is_resolved_and_host_stays_the_name(receiver, dialled, loop):
    outcome = send(receiver, Names(["127.0.0.1"]), loop=loop)
    assert (outcome.reason, outcome.address) == (Reason.DELIVERED, "127.0.0.1")
    assert receiver.seen[0].headers["host"] == f"{NAME}:{receiver.port}"
    assert dialled == [("127.0.0.1", receiver.port)]


@pytest.mark.parametrize(
    "answers",
    [
        ["10.0.0.1"],  # private
        ["169.254.169.254"],  # metadata
        ["127.0.0.1", "10.0.0.1"],  # mixed: one permitted, one not
        ["10.0.0.1", "127.0.0.1"],  # in the other order
        ["93.184.215.14", "127.0.0.1", "192.168.0.1"],  # public, opened, private
        [f"127.0.1.{n}" for n in range(99)] + ["10.0.0.1"],  # the last of a hundred
        ["::1"],  # IPv6, off
        ["127.0.0.1", "::ffff:127.0.0.1"],  # mapped
        ["127.0.0.1", "64:ff9b::7f00:1"],  # NAT64
        ["127.0.0.1", "fe80::1%lo"],  # with a zone
        ["127.0.0.1", "not an address"],  # garbage
    ],
)
def test_any_denied_answer_refuses_the_name(receiver, dialled, loop, answers):
    outcome = send(receiver, Names(answers), loop=loop)
    assert (outcome.reason, outcome.status, outcome.address) == (Reason.BLOCKED, None, None)
    assert outcome.detail == "the destination's address may not be dialled"
    assert dialled == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}/", "http://[::1]:{port}/", "http://10.0.0.1/"])
def test_literal_addresses_are_checked_as_well(receiver, dialled, url):
    outcome = sending.send(url.format(port=receiver.port), options={"policy": Policy()})
    assert outcome.reason is Reason.BLOCKED
    assert dialled == []


def test_the_dialler_itself_refuses_denied_addresses(receiver, dialled, monkeypatch):
    """If every check before it were wrong, the socket would still not be opened."""
    check = urls.check
    monkeypatch.setattr(urls, "check", lambda url, **_: check(url, sending.LOOPBACK))
    outcome = sending.send(receiver.url(), options={"policy": Policy()})
    assert (outcome.reason, dialled) == (Reason.BLOCKED, [])
    monkeypatch.setattr("delivery.transport._Resolver.resolve", _unchecked_resolve)
    outcome = sending.send(receiver.url(host=NAME), options={"policy": Policy()})
    assert (outcome.reason, dialled) == (Reason.BLOCKED, [])


async def _unchecked_resolve(self, host, port=0, family=socket.AF_INET):
    return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": family, "proto": 0, "flags": 0}]


def test_a_name_that_moves_inside_after_it_was_saved_is_blocked(receiver, dialled):
    urls.check(receiver.url("/hook", host=NAME), Policy())  # saved: names are judged when dialled
    outcome = send(receiver, Names(["192.168.1.1"]))
    assert (outcome.reason, dialled) == (Reason.BLOCKED, [])


def test_a_name_that_moves_inside_between_two_attempts_is_blocked(receiver, dialled, monkeypatch):
    monkeypatch.setattr(transport, "NAME_SECONDS", 0)
    receiver.on("/hook", Answer(200, close=True))
    outcomes = sends(receiver, Names(["127.0.0.1"], ["10.0.0.1"]), 3)
    assert [outcome.reason for outcome in outcomes] == [Reason.DELIVERED, Reason.BLOCKED, Reason.BLOCKED]
    assert dialled == [("127.0.0.1", receiver.port)]


def test_a_name_that_moves_between_check_and_dial_gains_nothing(receiver, dialled):
    names = Names(["127.0.0.1"], ["169.254.169.254"])
    assert send(receiver, names).delivered
    assert names.asked == [NAME]  # asked once: the answer that was checked is the one that is dialled
    assert dialled == [("127.0.0.1", receiver.port)]


def test_answers_are_remembered_for_seconds_only(receiver, monkeypatch):
    assert transport.NAME_SECONDS <= 5
    receiver.on("/hook", Answer(200, close=True))
    names = Names(["127.0.0.1"])
    sends(receiver, names, 3)
    assert len(names.asked) == 1
    monkeypatch.setattr(transport, "NAME_SECONDS", 0)
    sends(receiver, names, 3)
    assert len(names.asked) == 4


def test_a_connection_serves_one_name_only(receiver):
    async def work():
        async with sending.sender(lookup=Names(["127.0.0.1"])) as sender:
            for host in ("a.site.com", "b.site.com", "a.site.com", "127.0.0.1"):
                target = sending.target(receiver.url("/hook", host=host))
                assert (await sender.send(sending.message(), target, now=time.time())).delivered

    sending.in_loop(work)
    assert [seen.connection for seen in receiver.seen] == [1, 2, 1, 3]
    assert [seen.headers["host"].split(":")[0] for seen in receiver.seen][:2] == ["a.site.com", "b.site.com"]


def test_a_kept_connection_is_checked_again(receiver):
    """A policy of one port, or one that changed: what is permitted is asked at every use."""

    class Changing(Policy):
        open = True

        def permits(self, address, port):
            return self.open and super().permits(address, port)

    policy = Changing(["127.0.0.0/8"])

    async def work():
        async with sending.sender(lookup=Names(["127.0.0.1"]), policy=policy) as sender:
            target = sending.target(receiver.url("/hook", host=NAME))
            first = await sender.send(sending.message(), target, now=time.time())
            policy.open = False
            return first, await sender.send(sending.message(), target, now=time.time())

    first, second = sending.in_loop(work)
    assert (first.reason, second.reason) == (Reason.DELIVERED, Reason.BLOCKED)
    assert len(receiver.seen) == 1


def test_of_a_hundred_addresses_a_few_are_dialled(receiver, dialled):
    outcome = send(receiver, Names([f"127.0.1.{n}" for n in range(100)]))
    assert outcome.reason is Reason.REFUSED
    assert len({address for address, _ in dialled}) == transport.ADDRESSES_DIALLED


def test_the_next_address_is_dialled_when_one_refuses(receiver, dialled):
    outcome = send(receiver, Names(["127.0.1.1", "127.0.0.1"]))
    assert (outcome.reason, outcome.address) == (Reason.DELIVERED, "127.0.0.1")
    assert len(receiver.seen) == 1


@pytest.mark.parametrize(
    "answer",
    [
        [],  # no address
        socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
        socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"),
        OSError("no name servers"),
        UnicodeError("label too long"),
    ],
)
def test_a_name_without_an_address_is_a_dns_failure(receiver, loop, dialled, answer):
    outcome = send(receiver, Names(answer), loop=loop)
    assert (outcome.reason, outcome.status) == (Reason.DNS, None)
    assert outcome.detail
    assert dialled == []


def test_a_name_server_that_hangs_costs_the_limit_and_one_thread_per_name(receiver, monkeypatch):
    monkeypatch.setattr(transport, "RESOLVE_SECONDS", 0.3)
    asked, release = [], threading.Event()

    def hanging(host):
        asked.append(host)
        if host == "slow.site.com":
            release.wait(10)
        return ["127.0.0.1"]

    async def work():
        async with sending.sender(lookup=hanging) as sender:

            async def send(host):
                target = sending.target(receiver.url("/hook", host=host))
                return await sender.send(sending.message(), target, now=time.time())

            slow = [
                await send("slow.site.com"),
                *await asyncio.gather(*(send("slow.site.com") for _ in range(5))),
            ]
            fine = await send("fine.site.com")
            release.set()
            return slow, fine

    started = time.monotonic()
    try:
        slow, fine = sending.in_loop(work)
    finally:
        release.set()
    assert {outcome.reason for outcome in slow} == {Reason.DNS}
    assert all(outcome.duration_us < 1_000_000 for outcome in slow)
    assert fine.delivered
    assert asked == ["slow.site.com", "fine.site.com"]
    assert time.monotonic() - started < 3


def test_the_deadline_holds_while_resolving(receiver):
    release = threading.Event()

    def hanging(host):
        release.wait(10)
        return []

    started = time.monotonic()
    try:
        outcome = send(receiver, hanging, timeout_seconds=0.3)
    finally:
        release.set()
    assert (outcome.reason, outcome.detail) == (Reason.TIMEOUT, "no connection within 0.3 s")
    assert time.monotonic() - started < 1.3


def test_a_url_or_header_that_turns_out_invalid_is_not_sent(receiver, dialled):
    for url in (
        "http://user@127.0.0.1/",
        "ftp://site.com/",
        "http://localhost/",
        "http://0x7f.1/",
        "",
        "http://a\x00",
    ):
        outcome = sending.send(url)
        assert (outcome.reason, outcome.address) == (Reason.INVALID_REQUEST, None), url
    for headers in ((("Host", "evil.com"),), (("X-A", "a\r\nX-B: b"),), (("", "b"),), (("X-A", "\x00"),)):
        outcome = sending.send(receiver.url(), headers=headers)
        assert (outcome.reason, outcome.address) == (Reason.INVALID_REQUEST, None), headers
        assert outcome.detail.startswith("headers: ")
    assert dialled == []


def test_the_systems_resolver_is_asked_for_ipv4_unless_told_otherwise(monkeypatch):
    asked = []

    def getaddrinfo(host, port, *, family, type):  # noqa: A002  # the name that callers use
        asked.append((host, family))
        return [
            (socket.AF_INET, type, 6, "", ("127.0.0.1", 0)),
            (socket.AF_INET, type, 6, "", ("127.0.0.1", 0)),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert transport._addresses_of("a.site.com", ipv6=False) == ["127.0.0.1"]
    assert transport._addresses_of("b.site.com", ipv6=True) == ["127.0.0.1"]
    assert asked == [("a.site.com", socket.AF_INET), ("b.site.com", socket.AF_UNSPEC)]


def test_idle_connections_are_no_more_than_the_attempts_at_once():
    async def work():
        async with sending.sender(connections=4, lookup=Names(["127.0.0.1"])) as sender:
            for n in range(12):
                target = sending.target(receiver.url("/hook", host=f"h{n}.site.com"))
                assert (await sender.send(sending.message(), target, now=time.time())).delivered
            await asyncio.sleep(0.2)
            return len(receiver._tasks)

    with Receiver() as receiver:
        assert sending.in_loop(work) <= 4
        assert receiver.connections == 12


def test_ipv6_is_dialled_where_it_is_opened(dialled):
    try:
        receiver = Receiver(host="::1")
    except OSError:
        pytest.skip("no IPv6 loopback here")
    with receiver:
        outcome = sending.send(f"http://[::1]:{receiver.port}/hook", options={"policy": Policy(["::1/128"])})
    assert (outcome.reason, outcome.address) == (Reason.DELIVERED, "::1")
