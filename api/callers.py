"""Where does a request come from? The address that limits and logs go by.

Our own proxies append to X-Forwarded-For, so of its entries only the last `TRUSTED_PROXIES` are true: what
stands left of them was written by the client.
"""

import ipaddress
import re
from collections.abc import Mapping
from typing import Any, Protocol

from django.conf import settings

UNKNOWN = "0.0.0.0"  # noqa: S104 - nothing listens there: the server could not say (a Unix socket)
LONGEST_ENTRY = 64

_WITH_PORT = re.compile(r"\[([^\]]+)\](?::\d{1,5})?|(\d[\d.]*):\d{1,5}", re.ASCII)

type Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Asks(Protocol):
    """A request of Django or of DRF."""

    @property
    def META(self) -> Mapping[str, Any]: ...  # noqa: N802 - Django's name


def address_of(request: Asks) -> str:
    """The client's address in its one canonical form; always an address, whatever was sent.

    An IPv4 address in IPv6 clothes (`::ffff:192.0.2.1`) is the IPv4 address. Where fewer proxies wrote than
    are trusted, or no address, it is that of the connection.
    """
    return address_in(request.META)


def address_in(meta: Mapping[str, Any]) -> str:
    """The same, of a request's environment."""
    found = _forwarded(str(meta.get("HTTP_X_FORWARDED_FOR", "")), settings.TRUSTED_PROXIES)
    if found is None:
        found = _parsed(str(meta.get("REMOTE_ADDR", "")))
    return UNKNOWN if found is None else str(found)


def neighbourhood(address: str) -> str:
    """What one client can have all of: an IPv4 address, or an IPv6 network of /64."""
    parsed = ipaddress.ip_address(address)
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    return str(ipaddress.IPv6Network((parsed, 64), strict=False))


def _forwarded(header: str, proxies: int) -> Address | None:
    if not proxies or not header:
        return None
    entries = header.rsplit(",", proxies)[-proxies:]
    return _parsed(entries[0]) if len(entries) == proxies else None


def _parsed(entry: str) -> Address | None:
    text = entry.strip().strip('"')
    if len(text) > LONGEST_ENTRY:
        return None
    if match := _WITH_PORT.fullmatch(text):
        text = match[1] or match[2]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
