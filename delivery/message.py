"""What exactly is sent to a destination for one attempt?

POST, PUT, PATCH and DELETE carry the event's bytes as they were received, and the signature is over these
bytes. GET carries the event's members as query parameters after the URL's own, and the signature is over the
query string: the exact bytes after the '?' of the request line (so of both, as they are encoded there).
"""

import functools
import re
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import quote
from uuid import UUID

import orjson

from delivery import signature

METHODS = frozenset(("GET", "POST", "PUT", "PATCH", "DELETE"))
LONGEST_URL = 64_000
USER_AGENT = "DataPusher/1"

Headers = tuple[tuple[str, str], ...]

_EVENT_ID = re.compile(r"[\x21-\x7e]{1,128}")


class Invalid(Exception):
    """This message can't be sent to this target, now or later; the message says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Message(NamedTuple):
    """One attempt's content. `body`: the event as received; `event_id`: the client's; `attempt`: from 1."""

    delivery_id: UUID
    event_id: str
    attempt: int
    body: bytes


class Target(NamedTuple):
    """Where to and how. `secrets`: raw signing keys, the current one first."""

    url: str
    method: str
    headers: Headers
    secrets: tuple[bytes, ...]
    timeout_seconds: float


class Composed(NamedTuple):
    """A request, ready for the wire; `url` and `body` go out as they stand."""

    method: str
    url: str
    headers: Headers
    body: bytes | None


def compose(message: Message, target: Target, *, now: int) -> Composed:
    """The request for this attempt, signed at `now` (Unix seconds). Raises Invalid."""
    if target.method not in METHODS:
        raise Invalid("The method is not GET, POST, PUT, PATCH or DELETE.")
    if not _EVENT_ID.fullmatch(message.event_id):
        raise Invalid("The event's id is not 1 to 128 visible ASCII characters.")
    body: bytes | None
    if target.method == "GET":
        url, body = _with_members(target.url, message.body), None
        signed = url.partition("?")[2].encode()
    else:
        url, body = target.url, message.body
        signed = body
    delivery_id = str(message.delivery_id)
    headers = [
        *target.headers,
        ("webhook-id", delivery_id),
        ("webhook-timestamp", str(now)),
        ("webhook-signature", signature.sign(delivery_id, now, signed, target.secrets)),
        ("CL-X-EVENT-ID", message.event_id),
        ("CL-X-ATTEMPT", str(message.attempt)),
    ]
    return Composed(target.method, url, (*headers, *_defaults(target.headers, body is not None)), body)


@functools.lru_cache(maxsize=1024)
def _defaults(own: Headers, has_body: bool) -> Headers:
    """What a request says unless its destination has its own."""
    names = {name.lower() for name, _ in own}
    standard: Headers = (("User-Agent", USER_AGENT), ("Accept-Encoding", "identity"))
    if has_body:
        standard = (("Content-Type", "application/json"), *standard)
    return tuple((name, value) for name, value in standard if name.lower() not in names)


def _with_members(url: str, body: bytes) -> str:
    """The URL with the members of a JSON object as further query parameters."""
    parts: list[str] = []
    size = len(url)
    for name, value in _members(body):
        size += len(name) + len(value)
        if size <= LONGEST_URL:
            parts.append(f"{quote(name, safe='')}={quote(value, safe='')}")
            size += len(parts[-1]) + 1 - len(name) - len(value)
        if size > LONGEST_URL:
            raise _too_long()
    if not parts:
        return url
    _, mark, query = url.partition("?")
    glue = "&" if query and not query.endswith("&") else "" if mark else "?"
    return url + glue + "&".join(parts)


def _too_long() -> Invalid:
    return Invalid(f"The URL with the event's members has more than {LONGEST_URL} characters.")


# The tokens of JSON. Only text that orjson found valid is cut with it, so it may be this simple.
_TOKENS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[^\s",:\[\]{}]+|[,:\[\]{}]')


def _members(body: bytes) -> Iterator[tuple[str, str]]:
    """An object's members in order, repeated names too: strings as they are, all else as compact JSON.

    Cut from the text rather than parsed and written again, so that a number stays as it was written
    (1e2, 1.10, 12345678901234567890) and depth costs no recursion.
    """
    try:
        is_object = isinstance(orjson.loads(body), dict)
    except ValueError as error:
        raise Invalid("The event is not JSON.") from error
    if not is_object:
        raise Invalid("The event is not a JSON object.")
    tokens = (match[0] for match in _TOKENS.finditer(body))
    next(tokens)
    for name in tokens:
        if name.startswith(b'"'):
            next(tokens)
            yield _text(name), _value(tokens)


def _value(tokens: Iterator[bytes]) -> str:
    """The next value, whole, in the fewest characters."""
    token = next(tokens)
    if token.startswith(b'"'):
        return _text(token)
    parts = [token]
    depth = _STEP.get(token, 0)
    size = len(token)
    while depth:
        token = next(tokens)
        depth += _STEP.get(token, 0)
        size += len(token)
        if size > LONGEST_URL:
            raise _too_long()
        parts.append(token)
    return b"".join(parts).decode()


_STEP = {b"{": 1, b"[": 1, b"}": -1, b"]": -1}


def _text(token: bytes) -> str:
    text: str = orjson.loads(token)
    return text
