"""https is verified against the name, which is also what the destination is told."""

import ssl

import pytest

from delivery import transport
from delivery.outcome import Reason
from tests.delivery import sending
from tests.delivery.certificates import Authority
from tests.receivers import Receiver

NAME = "hooks.site.com"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certificates"))


def send(receiver, authority, *, url=None, trusting=None, **changes):
    options = {"tls": trusting or authority.trusting(), "lookup": lambda _: ["127.0.0.1"]}
    return sending.send(url or receiver.url("/hook", host=NAME), options=options, **changes)


def test_a_good_certificate_is_accepted_and_the_name_is_told(authority, loop):
    told = []
    context = authority.server(NAME)
    context.sni_callback = lambda _socket, name, _context: told.append(name)
    with Receiver(tls=context) as receiver:
        outcome = send(receiver, authority, loop=loop)
        assert outcome.delivered, outcome
        assert receiver.seen[0].headers["host"] == f"{NAME}:{receiver.port}"
    assert (told, outcome.address) == ([NAME], "127.0.0.1")


BAD = [
    ("expired", {"name": NAME, "expired": True}, "expired"),
    ("for another name", {"name": "other.site.com"}, "Hostname mismatch"),
    ("self-signed", {"name": NAME, "self_signed": True}, "self-signed"),
]


@pytest.mark.parametrize(("certificate", "words"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_a_bad_certificate_is_refused_before_anything_is_sent(authority, loop, certificate, words):
    with Receiver(tls=authority.server(**certificate)) as receiver:
        outcome = send(receiver, authority, loop=loop)
        assert receiver.seen == ()
    assert (outcome.reason, outcome.status, outcome.address) == (Reason.TLS, None, "127.0.0.1")
    assert words.lower() in outcome.detail.lower()


def test_an_authority_that_nobody_trusts_is_refused_by_default(authority):
    with Receiver(tls=authority.server(NAME)) as receiver:
        outcome = send(receiver, authority, trusting=transport._default_tls())
    assert outcome.reason is Reason.TLS


def test_the_default_verifies_and_speaks_http_1_only():
    context = transport._default_tls()
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert context.get_ca_certs()


def test_plain_http_on_a_tls_port_is_a_tls_failure(receiver, authority, loop):
    url = receiver.url("/hook", host=NAME).replace("http:", "https:")

    async def plain(reader, writer):
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    receiver.on_connect = plain
    outcome = send(receiver, authority, url=url, loop=loop)
    assert (outcome.reason, outcome.status) == (Reason.TLS, None)


def test_http_to_a_tls_port_is_one_failed_attempt(authority, loop):
    with Receiver(tls=authority.server(NAME)) as receiver:
        outcome = send(
            receiver, authority, url=receiver.url("/hook", host=NAME).replace("https:", "http:"), loop=loop
        )
        assert receiver.seen == ()
    assert outcome.reason in (Reason.PROTOCOL, Reason.RESET)


async def alert(reader, writer):
    await reader.read(100)
    writer.write(b"\x15\x03\x03\x00\x02\x02\x28")  # fatal: handshake_failure
    writer.close()


async def closing(reader, writer):
    await reader.read(100)
    writer.close()


async def silent(reader, writer):
    await reader.read(100)
    await reader.read()


@pytest.mark.parametrize(
    ("script", "reason"), [(alert, Reason.TLS), (closing, Reason.RESET), (silent, Reason.TIMEOUT)]
)
def test_a_handshake_that_fails_is_one_failed_attempt(receiver, authority, loop, script, reason):
    receiver.on_connect = script
    url = receiver.url("/hook", host=NAME).replace("http:", "https:")
    outcome = send(receiver, authority, url=url, loop=loop, timeout_seconds=0.5 if script is silent else 3.0)
    assert outcome.reason is reason, outcome
    assert outcome.duration_us < 3_500_000
    assert receiver.connections == 1


def test_a_client_certificate_that_we_do_not_have_is_a_failure(authority, loop):
    context = authority.server(NAME)
    context.verify_mode = ssl.CERT_REQUIRED
    with Receiver(tls=context) as receiver:
        outcome = send(receiver, authority, loop=loop)
        assert receiver.seen == ()
    assert outcome.reason in (Reason.TLS, Reason.RESET), outcome


def test_tls_1_2_is_spoken_and_older_is_not(authority):
    old = authority.server(NAME)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with Receiver(tls=old) as receiver:
        assert send(receiver, authority).delivered
