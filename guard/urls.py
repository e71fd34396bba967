"""May this URL be a destination?

One strict reading, used when a URL is saved and again before every attempt. Everything that two URL parsers
might read differently (RFC 3986 against WHATWG against getaddrinfo) is refused rather than interpreted.
"""

import ipaddress
import re
from dataclasses import dataclass

from guard import addresses

LONGEST = 2048
DEFAULT_PORTS = {"http": 80, "https": 443}

# Names that no public DNS answers (RFC 2606, 6761, 6762, 7686, 8375), and those that inner networks use.
PRIVATE_SUFFIXES = (
    "localhost", "localdomain", "local", "internal", "lan", "home", "corp", "private", "home.arpa", "arpa",
    "onion", "test", "example", "invalid", "svc", "cluster.local",
)  # fmt: skip

# From 1024 up; below that only 80 and 443 are open anyway.
DENIED_PORTS = frozenset(
    (
        *(
            1433,
            1434,
            1521,
            3306,
            5432,
            5433,
            6432,
            26257,
        ),  # SQL databases
        *(27017, 27018, 27019, 5984, 7000, 7001, 7199, 9042, 9160),  # MongoDB, CouchDB, Cassandra
        *(7474, 7687, 8086, 8529, 9200, 9300, 28015),  # Neo4j, InfluxDB, ArangoDB, Elasticsearch, RethinkDB
        *(6379, 6380, 11211, 16379, 26379),  # Redis, its bus and sentinel, memcached
        *(10248, 10249, 10250, 10255, 10256, 10257, 10259),  # kubelet and its neighbours
        *(2375, 2376, 2377),  # Docker
        *(2379, 2380, 4001, 7001),  # etcd
        # what browsers refuse (https://fetch.spec.whatwg.org/#port-blocking)
        *(1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566),
        *(6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080),
    )
)

_SHAPE = re.compile(r"(https?)://([^/?]*)(/[^?]*)?(\?.*)?", re.ASCII | re.IGNORECASE)
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z_.-]+)(?::([1-9][0-9]{0,4}))?", re.ASCII)
_TARGET = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?\[\]-]|%[0-9A-Fa-f]{2})*", re.ASCII)
_ENCODED_CONTROL = re.compile(r"%(?:[01][0-9A-Fa-f]|7[Ff])")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)


class Refused(Exception):
    """This URL can't be a destination; the message says why, in words for its owner."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class AddressRefused(Refused):
    """The URL is well-formed, but its literal address may not be dialled."""


@dataclass(frozen=True, slots=True)
class Url:
    """A URL that was checked. `host`: lower-case, no brackets; `target`: path and query as written."""

    scheme: str
    host: str
    port: int
    target: str

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.target}"


def check(url: str, policy: addresses.Policy) -> Url:
    """Read a URL strictly. Raises Refused, or AddressRefused for a literal address that `policy` denies."""
    if len(url) > LONGEST:
        raise Refused(f"A URL has at most {LONGEST} characters.")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise Refused("A URL consists of printable ASCII characters without spaces.")
    if "#" in url:
        raise Refused("A destination has no fragment ('#').")
    shape = _SHAPE.fullmatch(url)
    if shape is None:
        raise Refused("A URL starts with http:// or https:// and a host.")
    scheme, authority, path, query = shape.groups()
    scheme = scheme.lower()
    host, port = _authority(authority, DEFAULT_PORTS[scheme])
    target = (path or "/") + (query or "")
    if not _TARGET.fullmatch(target):
        raise Refused("Path and query may only have the characters of RFC 3986; encode others as %XX.")
    if _ENCODED_CONTROL.search(target):
        raise Refused("Path and query may not have encoded control characters.")
    _check_host(host, port, policy)
    return Url(scheme, host.strip("[]"), port, target)


def _authority(authority: str, default_port: int) -> tuple[str, int]:
    if "@" in authority:
        raise Refused("A URL carries no user name or password; use headers.")
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        raise Refused("The host is a name of letters, digits, '-', '_' and '.', or an address.")
    host, port_text = match.groups()
    port = int(port_text) if port_text else default_port
    if port not in (80, 443) and (port < 1024 or port > 65535 or port in DENIED_PORTS):
        raise Refused(f"Port {port} is not open for destinations.")
    return host.lower(), port


def _check_host(host: str, port: int, policy: addresses.Policy) -> None:
    if host.startswith("["):
        _check_ipv6(host[1:-1], port, policy)
        return
    last = host.rpartition(".")[2]
    if last.isdecimal() or last.startswith("0x"):
        _check_ipv4(host, port, policy)
        return
    _check_name(host)


def _check_ipv6(text: str, port: int, policy: addresses.Policy) -> None:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        raise Refused("The host in brackets is not an IPv6 address.") from None
    if not policy.permits(text, port):
        raise AddressRefused("This address may not be a destination.")


def _check_ipv4(text: str, port: int, policy: addresses.Policy) -> None:
    """Refuses the short, octal, hexadecimal and decimal forms that getaddrinfo would read as an address."""
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        raise Refused("An IPv4 address is written as four decimal numbers.") from None
    if not policy.permits(text, port):
        raise AddressRefused("This address may not be a destination.")


def _check_name(host: str) -> None:
    labels = host.split(".")
    if len(host) > 253 or len(labels) < 2 or not all(_LABEL.fullmatch(label) for label in labels):
        raise Refused("A host name has at least two labels of letters, digits, '-' and '_'.")
    if any(host.endswith("." + suffix) or host == suffix for suffix in PRIVATE_SUFFIXES):
        raise Refused("This name belongs to private networks.")
    if not all(_decodes(label) for label in labels):
        raise Refused("The host name has an invalid international label (xn--).")


def _decodes(label: str) -> bool:
    if not label.startswith("xn--"):
        return True
    try:
        return not label.removeprefix("xn--").encode().decode("punycode").isascii()
    except (UnicodeError, OverflowError, ValueError):
        return False
