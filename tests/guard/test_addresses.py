"""Which addresses may be dialled: every range of the list, its edges, and every way to write an address."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard import addresses, urls
from guard.addresses import Policy

PUBLIC = Policy()
DUAL = Policy(ipv6=True)

DENIED = [
    ("0.0.0.0", "this network: connects to the machine itself"),
    ("0.255.255.255", "its last"),
    ("10.0.0.0", "private"),
    ("10.255.255.255", "its last"),
    ("100.64.0.0", "carrier-grade NAT"),
    ("100.100.100.200", "metadata at Alibaba"),
    ("100.127.255.255", "its last"),
    ("127.0.0.1", "loopback"),
    ("127.255.255.255", "its last"),
    ("169.254.0.0", "link-local"),
    ("169.254.169.254", "metadata at most clouds"),
    ("169.254.255.255", "its last"),
    ("172.16.0.0", "private"),
    ("172.31.255.255", "its last"),
    ("192.0.0.0", "protocol assignments"),
    ("192.0.0.192", "metadata at Oracle"),
    ("192.0.2.1", "documentation"),
    ("192.31.196.1", "AS112"),
    ("192.52.193.1", "automatic multicast tunnelling"),
    ("192.88.99.1", "6to4 relay"),
    ("192.168.0.0", "private"),
    ("192.168.255.255", "its last"),
    ("192.175.48.1", "AS112"),
    ("198.18.0.0", "benchmarks"),
    ("198.19.255.255", "its last"),
    ("198.51.100.7", "documentation"),
    ("203.0.113.7", "documentation"),
    ("224.0.0.1", "multicast"),
    ("239.255.255.255", "its last"),
    ("240.0.0.1", "reserved"),
    ("255.255.255.255", "broadcast"),
    ("168.63.129.16", "Azure's host agent, public by every library"),
]

ALLOWED = [
    ("1.1.1.1", "an ordinary address"),
    ("9.255.255.255", "just below 10/8"),
    ("11.0.0.0", "just above 10/8"),
    ("100.63.255.255", "just below 100.64/10"),
    ("100.128.0.0", "just above 100.64/10"),
    ("126.255.255.255", "just below 127/8"),
    ("128.0.0.0", "just above 127/8"),
    ("169.253.255.255", "just below 169.254/16"),
    ("169.255.0.0", "just above 169.254/16"),
    ("172.15.255.255", "just below 172.16/12"),
    ("172.32.0.0", "just above 172.16/12"),
    ("192.0.1.0", "between two denied ranges"),
    ("192.167.255.255", "just below 192.168/16"),
    ("192.169.0.0", "just above 192.168/16"),
    ("198.17.255.255", "just below 198.18/15"),
    ("198.20.0.0", "just above 198.18/15"),
    ("168.63.129.15", "Azure's neighbour"),
    ("223.255.255.255", "the last before multicast"),
]

DENIED_IPV6 = [
    ("::", "unspecified"),
    ("::1", "loopback"),
    ("::7f00:1", "IPv4-compatible loopback"),
    ("::ffff:127.0.0.1", "IPv4-mapped loopback"),
    ("::ffff:8.8.8.8", "mapped, even of a public address"),
    ("::ffff:0:127.0.0.1", "IPv4-translated"),
    ("64:ff9b::7f00:1", "NAT64"),
    ("64:ff9b:1::1", "local NAT64"),
    ("100::1", "discard"),
    ("100:0:0:1::1", "dummy prefix"),
    ("2001::1", "Teredo"),
    ("2001:2::1", "benchmarks"),
    ("2001:20::1", "ORCHID"),
    ("2001:db8::1", "documentation"),
    ("2002:7f00:1::", "6to4 of loopback"),
    ("2620:4f:8000::1", "AS112"),
    ("3fff::1", "documentation"),
    ("3fff:fff:ffff::1", "its end"),
    ("4000::1", "not allocated"),
    ("5f00::1", "segment routing"),
    ("fc00::1", "unique local"),
    ("fd00:ec2::254", "metadata at Amazon"),
    ("fe80::1", "link-local"),
    ("fe80::1%eth0", "with a zone"),
    ("2606:4700:4700::1111%1", "a public one with a zone"),
    ("fec0::1", "site-local"),
    ("ff02::1", "multicast"),
]


@pytest.mark.parametrize(("address", "why"), DENIED, ids=[row[0] for row in DENIED])
def test_special_ipv4_addresses_are_denied(address, why):
    assert not PUBLIC.permits(address, 443), why
    assert not DUAL.permits(address, 443), why


@pytest.mark.parametrize(("address", "why"), ALLOWED, ids=[row[0] for row in ALLOWED])
def test_the_public_neighbours_of_denied_ranges_are_permitted(address, why):
    assert PUBLIC.permits(address, 443), why


@pytest.mark.parametrize(("address", "why"), DENIED_IPV6, ids=[row[0] for row in DENIED_IPV6])
def test_only_allocated_ipv6_is_permitted(address, why):
    assert not DUAL.permits(address, 443), why


def test_ipv6_is_off_unless_switched_on():
    assert DUAL.permits("2606:4700:4700::1111", 443)
    assert not PUBLIC.permits("2606:4700:4700::1111", 443)


@pytest.mark.parametrize(
    "text",
    [
        "",  # nothing
        "localhost",  # a name
        "1.1.1",  # short
        "01.1.1.1",  # octal to some
        "0x1.1.1.1",  # hexadecimal
        "16843009",  # decimal
        "1.1.1.1 ",  # with a space
        "\uff11.1.1.1",  # full-width digit
        "1.1.1.1\x00.example.com",  # what getaddrinfo would cut off
        "[::1]",  # with brackets
    ],
)
def test_what_is_not_an_address_in_its_strict_form_is_denied(text):
    assert not Policy(["0.0.0.0/0", "::/0"], ipv6=True).permits(text, 443)


def test_a_range_is_opened_for_every_port_or_for_one():
    policy = Policy(["10.0.0.0/8", "127.0.0.1/32:9000", "::1/128:9000"])
    assert policy.permits("10.1.2.3", 80)
    assert policy.permits("127.0.0.1", 9000)
    assert policy.permits("::1", 9000)
    assert not policy.permits("127.0.0.1", 9001)
    assert not policy.permits("127.0.0.2", 9000)
    assert not policy.permits("192.168.0.1", 80)
    assert policy.permits("1.1.1.1", 80)


@pytest.mark.parametrize(
    "entry",
    [
        "10.0.0.1/8",  # bits after the prefix
        "10.0.0.0/33",  # too long
        "10.0.0.0/",  # a length is announced
        "10.0.0.0/255.0.0.0",  # a mask
        "10.0.0",  # short
        "private/8",  # a name
        "localhost",  # a name
        "localhost:9000",  # a name and a port
        "[127.0.0.1]:9000",  # brackets are for IPv6
        "[::1",  # one bracket
        "[::1]9000",  # no colon
        "[::1/128]:9000",  # a range in brackets
        "::1:9000:x",  # not an address
        "167772160",  # decimal
        "",  # nothing
    ],
)
def test_an_opening_that_is_neither_address_nor_range_is_refused_at_start(entry):
    with pytest.raises(ValueError, match="neither an address nor a CIDR range") as refused:
        Policy([entry])
    assert repr(entry) in str(refused.value)


@pytest.mark.parametrize(
    "port", ["", "0", "00", "65536", "99999999", "http", "-1", "+80", "8 0", "\uff18\uff10"]
)
@pytest.mark.parametrize("where", ["10.0.0.0/8", "127.0.0.1", "[::1]", "::1/128"])
def test_an_opening_has_a_port_that_there_is(where, port):
    with pytest.raises(ValueError, match="no port from 1 to 65535"):
        Policy([f"{where}:{port}"])


@pytest.mark.parametrize("entry", ["fe80::1%eth0", "fe80::1%eth0/128", "[fe80::1%eth0]:9000", "fe80::%1/64"])
def test_an_opening_has_no_zone(entry):
    with pytest.raises(ValueError, match="names a zone"):
        Policy([entry])


def test_a_single_address_is_opened_for_every_port_or_for_one():
    policy = Policy(["127.0.0.1", "127.0.0.2:9000", "::1", "[fd00::1]:9000", "[fd00::2]"])
    assert policy.permits("127.0.0.1", 80)
    assert policy.permits("127.0.0.2", 9000)
    assert policy.permits("::1", 80)
    assert policy.permits("fd00::1", 9000)
    assert policy.permits("fd00::2", 80)
    assert not policy.permits("127.0.0.2", 80)
    assert not policy.permits("127.0.0.3", 9000)
    assert not policy.permits("fd00::1", 80)
    assert not policy.permits("::2", 80)


denied_addresses = st.one_of(
    *(
        st.integers(int(network.network_address), int(network.broadcast_address)).map(ipaddress.IPv4Address)
        for network in addresses.DENIED_IPV4
    )
)


def every_form(address):
    number, octets = int(address), [int(part) for part in str(address).split(".")]
    high, low = number >> 16, number & 0xFFFF
    yield str(address)
    yield str(number)  # decimal
    yield hex(number)  # hexadecimal
    yield oct(number).replace("0o", "0")  # octal
    yield ".".join(hex(octet) for octet in octets)
    yield ".".join(f"0{octet:o}" for octet in octets)
    yield f"{octets[0]}.{number & 0xFFFFFF}"  # two parts
    yield f"{octets[0]}.{octets[1]}.{low}"  # three parts
    yield f"{address}."  # absolute
    yield f"[::ffff:{address}]"  # mapped
    yield f"[::ffff:{high:x}:{low:x}]"
    yield f"[::{address}]"  # compatible
    yield f"[::ffff:0:{address}]"  # translated
    yield f"[64:ff9b::{address}]"  # NAT64
    yield f"[64:ff9b:1::{address}]"
    yield f"[2002:{high:x}:{low:x}::1]"  # 6to4
    yield f"[2001:0:{high:x}:{low:x}::1]"  # Teredo


@given(address=denied_addresses)
def test_a_denied_address_is_refused_in_every_textual_form(address):
    for form in every_form(address):
        with pytest.raises(urls.Refused):
            urls.check(f"http://{form}/", DUAL)
        assert not DUAL.permits(form.strip("[]"), 80), form


@given(text=st.text())
def test_no_text_makes_the_policy_raise(text):
    assert PUBLIC.permits(text, 80) in (True, False)
