"""Which address does a request come from, whatever its headers claim?"""

import ipaddress

import pytest
from django.test import RequestFactory, override_settings
from hypothesis import given
from hypothesis import strategies as st
from rest_framework.request import Request

from api import callers
from api.callers import address_of


def asked(remote="192.0.2.1", forwarded=None):
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
    return RequestFactory().get("/", REMOTE_ADDR=remote, headers=headers)


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:DB8:0::1", "2001:db8::1"),  # one form for all spellings
        ("::ffff:192.0.2.1", "192.0.2.1"),  # a dual-stack socket
        ("fe80::1%eth0", "fe80::1"),  # the zone is the server's, not the client's
        ("", callers.UNKNOWN),  # a Unix socket
        ("unix:", callers.UNKNOWN),
    ],
)
def test_the_connection_decides(remote, address):
    assert address_of(asked(remote)) == address


def test_nobody_is_believed_without_proxies_of_ours(settings):
    settings.TRUSTED_PROXIES = 0
    assert address_of(asked(forwarded="198.51.100.7")) == "192.0.2.1"


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        (1, "198.51.100.7", "198.51.100.7"),
        (1, "10.0.0.1, 198.51.100.7", "198.51.100.7"),  # the left one is what the client claims
        (2, "6.6.6.6,198.51.100.7, 10.0.0.2", "198.51.100.7"),
        (1, "198.51.100.7:4711", "198.51.100.7"),  # some proxies add the port
        (1, "[2001:db8::7]:4711", "2001:db8::7"),
        (1, "[2001:db8::7]", "2001:db8::7"),
        (1, "::ffff:198.51.100.7", "198.51.100.7"),
        (3, "198.51.100.7, 10.0.0.2", "192.0.2.1"),  # too few entries: it came past a proxy
        (1, "198.51.100.7, ", "192.0.2.1"),
        (1, "not an address", "192.0.2.1"),
        (1, "x" * 10_000, "192.0.2.1"),
        (1, "", "192.0.2.1"),
    ],
)
def test_the_entry_that_our_outermost_proxy_wrote(settings, proxies, forwarded, address):
    settings.TRUSTED_PROXIES = proxies
    assert address_of(asked(forwarded=forwarded)) == address


def test_a_request_of_rest_framework_is_asked_alike(settings):
    settings.TRUSTED_PROXIES = 1
    assert address_of(Request(asked(forwarded="198.51.100.7"))) == "198.51.100.7"


class Said:
    def __init__(self, remote, forwarded):
        self.META = {"REMOTE_ADDR": remote, "HTTP_X_FORWARDED_FOR": forwarded}


@given(remote=st.text(max_size=80), forwarded=st.text(alphabet='0123456789abcdef:.,[]% "\x00é', max_size=200))
def test_the_answer_is_always_an_address(remote, forwarded):
    with override_settings(TRUSTED_PROXIES=2):
        ipaddress.ip_address(address_of(Said(remote, forwarded)))


@pytest.mark.parametrize(
    ("address", "neighbours"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),  # a subscriber has at least a /64
    ],
)
def test_an_ipv6_client_is_its_network(address, neighbours):
    assert callers.neighbourhood(address) == neighbours
