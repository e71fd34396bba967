"""Which network addresses may be dialled?

Own tables, from the IANA special-purpose registries (RFC 6890 and later) and what clouds put beside them:
`ipaddress.is_private` and `is_global` miss NAT64, 6to4 and others, and differ by Python version.
IPv4 is everything but the denied; IPv6 is nothing but the allocated (2000::/3), less the denied, and only
when switched on.
"""

import functools
import ipaddress
import re
from collections.abc import Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Opening = tuple[Network, int | None]
LAST_PORT = 65_535

DENIED_IPV4 = tuple(
    ipaddress.IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this network; 0.0.0.0 connects to the machine itself
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT; also Alibaba's metadata at 100.100.100.200
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local; metadata of most clouds at 169.254.169.254
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # IETF protocol assignments; Oracle's metadata at 192.0.0.192
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # automatic multicast tunnelling
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
        "168.63.129.16/32",  # Azure's host agent: public by every library
    )
)
ALLOCATED_IPV6 = ipaddress.IPv6Network("2000::/3")
DENIED_IPV6 = tuple(
    ipaddress.IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments: Teredo, ORCHID, benchmarks
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: carries any IPv4 address
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
)


class Policy:
    """What may be dialled: public addresses, and the ranges that the operator opened.

    `allow`: CIDR ranges or single addresses, optionally for one port: "10.0.0.0/8", "127.0.0.1",
    "127.0.0.1:9000", "127.0.0.1/32:9000", "::1", "[::1]:9000", "::1/128:9000".
    Raises ValueError at anything else.
    """

    def __init__(self, allow: Sequence[str] = (), ipv6: bool = False) -> None:
        self.ipv6 = ipv6
        self._openings = tuple(_opening(entry) for entry in allow)

        self._verdict = functools.lru_cache(maxsize=8192)(self._judge)

    def permits(self, address: str, port: int) -> bool:
        """Whether this address, in its strict textual form, may be dialled on this port; never raises."""
        return self._verdict(address, port)

    def _judge(self, address: str, port: int) -> bool:
        parsed = _parse(address)
        if parsed is None:
            return False
        return self._opened(parsed, port) or (_is_public(parsed) and (self.ipv6 or parsed.version == 4))

    def _opened(self, address: Address, port: int) -> bool:
        return any(address in network and only in (None, port) for network, only in self._openings)


# A range with or without a port; an IPv6 address in brackets; an IPv4 address; a bare IPv6 address (no port).
_OPENINGS = tuple(
    re.compile(pattern, re.ASCII)
    for pattern in (
        r"(?P<network>[^/\[\]]+/[0-9]{1,3})(:(?P<port>.*))?",
        r"\[(?P<network>[^/\[\]]*:[^/\[\]]*)\](:(?P<port>.*))?",
        r"(?P<network>[^/:\[\]]+)(:(?P<port>[^:]*))?",
        r"(?P<network>[^/\[\]]+)(?P<port>(?!))?",
    )
)


def _opening(entry: str) -> Opening:
    text = entry.strip()
    found = next(filter(None, (pattern.fullmatch(text) for pattern in _OPENINGS)), None)
    if found is None:
        raise ValueError(f"{entry!r} is neither an address nor a CIDR range, with or without a port")
    network, port = found["network"], found["port"]
    if "%" in network:
        raise ValueError(f"{entry!r} names a zone: addresses with a zone are never dialled")
    if port is not None and not (port.isascii() and port.isdecimal() and 0 < int(port) <= LAST_PORT):
        raise ValueError(f"{entry!r} has no port from 1 to {LAST_PORT} after its colon")
    try:
        return ipaddress.ip_network(network), None if port is None else int(port)
    except ValueError as error:
        raise ValueError(f"{entry!r} is neither an address nor a CIDR range: {error}") from None


def _parse(address: str) -> Address | None:
    if "%" in address:  # a zone id: valid for `ipaddress`, never for a destination
        return None
    try:
        return ipaddress.ip_address(address)
    except ValueError:
        return None


def _is_public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in DENIED_IPV4)
    return address in ALLOCATED_IPV6 and not any(address in network for network in DENIED_IPV6)
