"""What became of one attempt?

A destination's answer is hostile text, and an outcome is stored for ever in the history. So an outcome says
what happened in our own words: nothing of the answer's body or headers, which may repeat a header's secret or
the event itself, gets into it.
"""

import http
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import NamedTuple

LONGEST_DETAIL = 200
LONGEST_RETRY_AFTER = 86_400  # seconds


class Reason(StrEnum):
    DELIVERED = "delivered"  # 2xx, and its body ended as it should
    REDIRECT = "redirect"  # 3xx: never followed
    CLIENT_ERROR = "client_error"  # 4xx but the next two
    THROTTLED = "throttled"  # 429
    GONE = "gone"  # 410: wants no more
    SERVER_ERROR = "server_error"  # 5xx
    REFUSED = "refused"  # no connection: refused, or unreachable
    DNS = "dns"  # the name has no address, or nobody answered for it in time
    TLS = "tls"  # handshake or certificate
    RESET = "reset"  # the connection ended before the answer did
    TIMEOUT = "timeout"  # the deadline passed, or no connection within the limit
    PROTOCOL = "protocol"  # the answer is not HTTP/1.1
    TOO_LARGE = "too_large"  # the answer is over the caps on head or body
    BLOCKED = "blocked"  # the address may not be dialled: nothing was
    INVALID_REQUEST = "invalid_request"  # the URL, headers or event can't be sent: nothing was


class Outcome(NamedTuple):
    """`duration_us`: whole microseconds; `address`: the peer's, or the one dialled in vain."""

    reason: Reason
    status: int | None
    duration_us: int
    address: str | None
    retry_after_seconds: float | None
    detail: str

    @property
    def delivered(self) -> bool:
        return self.reason is Reason.DELIVERED


class AttemptError(Exception):
    """The exchange failed for `reason`; `detail` explains it in our own words."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def of_status(status: int) -> Reason:
    if status == http.HTTPStatus.GONE:
        return Reason.GONE
    if status == http.HTTPStatus.TOO_MANY_REQUESTS:
        return Reason.THROTTLED
    return _BY_HUNDREDS.get(status // 100, Reason.PROTOCOL)


_BY_HUNDREDS = {
    2: Reason.DELIVERED,
    3: Reason.REDIRECT,
    4: Reason.CLIENT_ERROR,
    5: Reason.SERVER_ERROR,
}


def describe(status: int) -> str:
    """A status in words: the standard's, never the destination's. Empty when all is well."""
    if 200 <= status < 300:
        return ""
    try:
        return f"{status} {http.HTTPStatus(status).phrase}"
    except ValueError:
        return f"{status}"


def retry_after(value: str | None, *, now: float) -> float | None:
    """Seconds asked for by a Retry-After header (RFC 9110, 10.2.3), at most a day; None for garbage.

    `now` is in Unix seconds; a date that has passed asks for nothing (0).
    """
    if value is None:
        return None
    value = value.strip(" \t")
    if _SECONDS.fullmatch(value):
        return float(min(int(value), LONGEST_RETRY_AFTER))
    if not _DATE.fullmatch(value):
        return None
    try:
        moment = parsedate_to_datetime(value)
        wait = moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.fromtimestamp(now, UTC)
    except (ValueError, OverflowError):
        return None
    return min(max(wait.total_seconds(), 0.0), float(LONGEST_RETRY_AFTER))


_SECONDS = re.compile(r"[0-9]{1,12}", re.ASCII)
_DATE = re.compile(r"[A-Za-z]{3,9},? [A-Za-z0-9 :-]{10,40}", re.ASCII)


def clean(text: str) -> str:
    """The text as one line of at most 200 printable ASCII characters, whatever it was."""
    return _JUNK.sub(" ", text[: 4 * LONGEST_DETAIL]).strip()[:LONGEST_DETAIL]


_JUNK = re.compile(r"[^\x21-\x7e]+")
