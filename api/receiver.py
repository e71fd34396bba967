"""How does `POST /server/incoming_data` answer? A bare ASGI application: this is the one hot path.

The order of the checks, the statuses and the bodies are API.md's table. Whatever is refused before the intake
costs no database, and leaves nothing behind. Nothing here ever answers a 5xx but 503: what we did not foresee
is logged and told as "try again", because the client's event is then in its own hands and not in ours.
"""

import contextlib
import functools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import orjson

from accounts import tokens
from api import body as bodies
from api import moments
from api.body import Receive, Send
from outbox.intake import Outcome, Submission, Verdict

PATHS = frozenset(("/server/incoming_data", "/server/incoming_data/"))
EVENT_ID_LENGTH = 128
SMALL_BYTES = 16 << 10  # times the connections (8,192), these are 128 MiB at most
LARGE_TOGETHER_BYTES = 128 << 20  # what has arrived of larger ones, all together

log = logging.getLogger(__name__)

type Headers = list[tuple[bytes, bytes]]
type Take = Callable[[int], None]

_READ = frozenset(
    (
        b"cl-x-token",
        b"cl-x-event-id",
        b"content-type",
        b"content-length",
        b"content-encoding",
        b"transfer-encoding",
    )
)
_NOSNIFF = (b"x-content-type-options", b"nosniff")
# What stands in for a header that was sent twice: no check lets it pass.
_TWICE = b"\x00"
_VISIBLE = bytes(range(0x21, 0x7F))
_JSON = frozenset(
    (b"application/json", b"application/json;charset=utf-8", b'application/json;charset="utf-8"')
)


class Accepts(Protocol):
    """What the receiver needs of the intake."""

    async def accept(self, submission: Submission) -> Verdict: ...


class Answer(NamedTuple):
    """A whole response, and how it is counted. Those that never differ are made once, below."""

    reason: str
    status: int
    headers: Headers
    body: bytes


def _answer(reason: str, status: int, content: Mapping[str, Any], *headers: tuple[bytes, bytes]) -> Answer:
    body = orjson.dumps(content)
    return Answer(
        reason,
        status,
        [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
            _NOSNIFF,
            *headers,
        ],
        body,
    )


def _invalid(reason: str, status: int, field: str, message: str, *headers: tuple[bytes, bytes]) -> Answer:
    content = {"success": False, "message": "Invalid Data", "errors": {field: [message]}}
    return _answer(reason, status, content, *headers)


_CLOSE = (b"connection", b"close")
METHOD = _invalid("method", 405, "method", "Only POST is allowed here.", (b"allow", b"POST"))
# It closes: a body that was sent without a length would be read as the next request.
NO_LENGTH = _invalid(
    "no_length", 411, "Content-Length", "Send the length of the body; chunked bodies are not taken.", _CLOSE
)
BAD_LENGTH = _invalid("bad_length", 400, "Content-Length", "This is not one length.", _CLOSE)
LENGTH_DIFFERS = _invalid(
    "length_differs", 400, "Content-Length", "The body is not as long as this says.", _CLOSE
)
TYPE = _invalid("content_type", 415, "Content-Type", "Must be application/json, in utf-8.")
ENCODING = _invalid("content_encoding", 415, "Content-Encoding", "Send the body as it is, not encoded.")
EVENT_ID = _invalid("event_id", 400, "CL-X-EVENT-ID", "Send one, of 1 to 128 visible ASCII characters.")
NOT_JSON = _invalid("not_json", 400, "body", "This is not valid JSON.")
NO_OBJECT = _invalid("no_object", 400, "body", "Must be a JSON object.")
TOO_SLOW = _invalid("too_slow", 408, "body", "The body did not arrive in time.", _CLOSE)
CONFLICT = _invalid("conflict", 409, "CL-X-EVENT-ID", "This event id was used before, with other content.")
UNAUTHENTICATED = _answer(
    "unauthenticated",
    401,
    {"success": False, "message": "Unauthenticated"},
    (b"www-authenticate", b"CL-X-TOKEN"),
)
_UNAVAILABLE = {"success": False, "message": "Unavailable"}
UNAVAILABLE = _answer("unavailable", 503, _UNAVAILABLE, (b"retry-after", b"1"))


STORED = ("accepted", "duplicate")
REASONS = (
    *STORED,
    *(answer.reason for answer in list(globals().values()) if isinstance(answer, Answer)),
    *("too_large", "rate_limited"),
)


def too_large(most_bytes: int) -> Answer:
    return _invalid("too_large", 413, "body", f"At most {most_bytes} bytes are taken.", _CLOSE)


class _Refused(Exception):
    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


class Receiver:
    """The door for events: an ASGI application for one path."""

    def __init__(self, intake: Accepts, *, most_bytes: int, seconds: float = bodies.SECONDS) -> None:
        self._intake = intake
        self._most_bytes = most_bytes
        self._seconds = seconds
        self._large_bytes = 0
        self._too_large = too_large(most_bytes)
        self.answered = dict.fromkeys(REASONS, 0)  # how often, since the process began (api.metrics)

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        try:
            answer = await self._receive(scope, receive)
        except _Refused as refused:
            answer = refused.answer
        except Exception:
            log.exception("receiving an event failed")
            answer = UNAVAILABLE
        self.answered[answer.reason] += 1
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def _receive(self, scope: Mapping[str, Any], receive: Receive) -> Answer:
        if scope["method"] != "POST":
            return METHOD
        headers = _headers(scope["headers"])
        length = _length(headers)
        if length > self._most_bytes:
            return self._too_large
        _check_type(headers)
        token = _token(headers)
        event_id = _event_id(headers)
        with self._room(length) as take:
            body = await self._body(length, receive, take)
            _check_content(body)
            verdict = await self._intake.accept(Submission(token=token, event_id=event_id, body=body))
        return _VERDICTS[verdict.outcome](verdict, event_id)

    async def _body(self, length: int, receive: Receive, arrived: Take) -> bytes:
        try:
            return await bodies.read(receive, length, seconds=self._seconds, arrived=arrived)
        except bodies.TooSlow:
            raise _Refused(TOO_SLOW) from None
        except bodies.WrongLength:
            raise _Refused(LENGTH_DIFFERS) from None

    def _room(self, length: int) -> contextlib.AbstractContextManager[Take]:
        return _ANYWHERE if length <= SMALL_BYTES else self._room_for_large()

    @contextlib.contextmanager
    def _room_for_large(self) -> Iterator[Take]:
        """What has arrived takes room, not what was announced: to announce costs a stranger nothing."""
        held = 0

        def take(size: int) -> None:
            nonlocal held
            if self._large_bytes + size > LARGE_TOGETHER_BYTES:
                raise _Refused(UNAVAILABLE)
            self._large_bytes += size
            held += size

        try:
            yield take
        finally:
            self._large_bytes -= held


_ANYWHERE = contextlib.nullcontext(bodies.nothing)


def _headers(pairs: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """The headers that we read, by name in lower case."""
    found: dict[bytes, bytes] = {}
    for name, value in pairs:
        lower = name.lower()
        if lower in _READ:
            found[lower] = _TWICE if lower in found else value
    return found


def _length(headers: dict[bytes, bytes]) -> int:
    # A length beside chunks is a request that two servers read differently: the chunks count, so it has none.
    if b"content-length" not in headers or b"transfer-encoding" in headers:
        raise _Refused(NO_LENGTH)
    length = bodies.length(headers[b"content-length"])
    if length is None:
        raise _Refused(BAD_LENGTH)
    return length


def _check_type(headers: dict[bytes, bytes]) -> None:
    content_type = headers.get(b"content-type", b"")
    if content_type not in _JSON and _normal(content_type) not in _JSON:
        raise _Refused(TYPE)
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise _Refused(ENCODING)


def _normal(content_type: bytes) -> bytes:
    """In lower case, without spaces and empty parameters (RFC 9110, 5.6.6 allows `application/json;`)."""
    kind, *parameters = (part.strip() for part in content_type.lower().split(b";"))
    return b";".join((kind, *filter(None, parameters)))


def _token(headers: dict[bytes, bytes]) -> tokens.PresentedToken:
    token = tokens.parse(headers.get(b"cl-x-token", b"").decode("latin-1"))
    if token is None:
        raise _Refused(UNAUTHENTICATED)
    return token


def _event_id(headers: dict[bytes, bytes]) -> str:
    event_id = headers.get(b"cl-x-event-id", b"")
    if not 0 < len(event_id) <= EVENT_ID_LENGTH or event_id.translate(None, _VISIBLE):
        raise _Refused(EVENT_ID)
    return event_id.decode("ascii")


def _check_content(body: bytes) -> None:
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise _Refused(NOT_JSON) from None
    if not isinstance(content, dict):
        raise _Refused(NO_OBJECT)


def _accepted(verdict: Verdict, name: str) -> Answer:
    return _received("accepted", 202, verdict, name)


def _duplicate(verdict: Verdict, name: str) -> Answer:
    return _received("duplicate", 200, verdict, name)


def _received(reason: str, status: int, verdict: Verdict, name: str) -> Answer:
    content = {
        "success": True,
        "message": "Data Received",
        "event": {
            "id": verdict.event,
            "event_id": name,
            "received_timestamp": verdict.received_at and moments.as_text(verdict.received_at),
            "deliveries": verdict.deliveries,
            "duplicate": status == 200,
        },
    }
    # A known id is answered without reading the gate: what is left isn't known.
    if status == 200 or not verdict.limit:
        return _answer(reason, status, content)
    left = (b"ratelimit", b'"account";r=%d' % verdict.remaining)
    return _answer(reason, status, content, _policy(verdict.limit), left)


def _limited(verdict: Verdict, _name: str) -> Answer:
    return too_many(verdict.limit, _seconds(verdict.retry_after_ms))


def _unavailable(verdict: Verdict, _name: str) -> Answer:
    return _away(_seconds(verdict.retry_after_ms))


_VERDICTS = {
    Outcome.ACCEPTED: _accepted,
    Outcome.DUPLICATE: _duplicate,
    Outcome.CONFLICT: lambda _verdict, _name: CONFLICT,
    Outcome.LIMITED: _limited,
    Outcome.UNAUTHENTICATED: lambda _verdict, _name: UNAUTHENTICATED,
    Outcome.UNAVAILABLE: _unavailable,
}


@functools.lru_cache(maxsize=256)
def too_many(limit: int, seconds: int) -> Answer:
    return _answer(
        "rate_limited",
        429,
        {"success": False, "message": "Too Many Requests"},
        (b"retry-after", b"%d" % seconds),
        _policy(limit),
        (b"ratelimit", b'"account";r=0;t=%d' % seconds),
    )


@functools.lru_cache(maxsize=256)
def _away(seconds: int) -> Answer:
    return _answer("unavailable", 503, _UNAVAILABLE, (b"retry-after", b"%d" % seconds))


@functools.lru_cache(maxsize=256)
def _policy(limit: int) -> tuple[bytes, bytes]:
    """A named policy of draft-ietf-httpapi-ratelimit-headers: q requests in w seconds."""
    return (b"ratelimit-policy", b'"account";q=%d;w=1' % limit)


def _seconds(milliseconds: int) -> int:
    """Whole seconds, rounded up: who waits this long is not refused again for coming too early."""
    return max(1, -(-milliseconds // 1000))
