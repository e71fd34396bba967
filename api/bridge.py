"""How does Django (WSGI, synchronous) answer behind an ASGI server?

The body is read whole before a thread is taken, so that slow clients hold no thread; a small response is
handed over whole, a long one in portions. (ADR "One port": why this and not a library.)
"""

import asyncio
import functools
import io
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
from django.utils.http import parse_header_parameters

from api import body as bodies
from api import problems, requests
from api.body import Receive, Send

PORTION = 256 << 10
STALLED_SECONDS = 30.0  # a client that takes no byte of a long answer for this long has gone

log = logging.getLogger(__name__)

type Environ = dict[str, Any]
type Wsgi = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]


class Bridge:
    """An ASGI application around a WSGI application and its threads."""

    def __init__(self, wsgi: Wsgi, *, threads: int, most_bytes: int, seconds: float = bodies.SECONDS) -> None:
        self._wsgi = wsgi
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="django")
        self._most_bytes = most_bytes
        self._seconds = seconds

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        asked = requests.Asked(scope)
        try:
            asked.environ = await self._environ(scope, receive)
            response = await self._respond(asked, send)
        except _Refused as error:
            asked.answered(error.problem.status)
            await _refuse(scope, send, error, asked)
        else:
            asked.answered(response.status)
            await _finish(send, response)

    async def _respond(self, asked: requests.Asked, send: Send) -> "_Response":
        """In a thread, where each line of log has the request's id."""
        loop = asyncio.get_running_loop()
        response = _Response(functools.partial(_send_from_thread, loop, send), asked.header)
        try:
            await loop.run_in_executor(
                self._threads, asked.context.run, response.run, self._wsgi, asked.environ
            )
        except Exception:  # noqa: BLE001 - it is logged, with the request's id
            asked.context.run(log.exception, "answering failed")
            if response.started:
                asked.answered(response.status)
                raise CutShort from None
            raise _Refused(problems.INTERNAL) from None
        return response

    def close(self) -> None:
        """Let the running requests end."""
        self._threads.shutdown(wait=True)

    async def _environ(self, scope: Mapping[str, Any], receive: Receive) -> Environ:
        headers = _headers(scope["headers"])
        if not scope["query_string"].isascii():
            raise _Refused(problems.MALFORMED, "The query string must be percent-encoded.")
        if "HTTP_TRANSFER_ENCODING" in headers:
            raise _Refused(problems.NO_LENGTH)
        _check_charset(headers.get("CONTENT_TYPE", ""))
        body = await self._body(headers.get("CONTENT_LENGTH", "0"), receive)
        host, port = scope.get("server") or ("localhost", 80)
        client = scope.get("client") or ("", 0)
        return {
            "REQUEST_METHOD": scope["method"],
            "SCRIPT_NAME": scope.get("root_path", ""),
            "PATH_INFO": scope["path"].encode().decode("latin-1"),
            "QUERY_STRING": scope["query_string"].decode("ascii"),
            "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
            "SERVER_NAME": host,
            "SERVER_PORT": str(port),
            "REMOTE_ADDR": client[0],
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": scope.get("scheme", "http"),
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
            **headers,
        }

    async def _body(self, said: str, receive: Receive) -> bytes:
        length = bodies.length(said.encode("latin-1"))
        if length is None:
            raise _Refused(problems.MALFORMED, "Content-Length is not one length.")
        if length > self._most_bytes:
            raise _Refused(problems.TOO_LARGE, f"At most {self._most_bytes} bytes are taken.")
        try:
            return await bodies.read(receive, length, seconds=self._seconds)
        except bodies.TooSlow:
            raise _Refused(problems.TOO_SLOW) from None
        except bodies.WrongLength:
            raise _Refused(problems.MALFORMED, "The body is not as long as Content-Length says.") from None


class CutShort(Exception):
    """The answer had begun and can't be finished; why is in the log."""


class _Refused(Exception):
    def __init__(self, problem: problems.Problem, detail: str = "") -> None:
        super().__init__(problem.slug)
        self.problem = problem
        self.detail = detail


class _Response:
    """What Django answered: status and headers, and the body up to the first portion."""

    def __init__(self, send: Callable[[Mapping[str, Any]], None], *more: tuple[bytes, bytes]) -> None:
        self._send = send
        self._more = more
        self.started = False
        self.rest = b""
        self.status = 500
        self.headers: list[tuple[bytes, bytes]] = []

    def start(self, status: str, headers: list[tuple[str, str]], _exc_info: Any = None) -> None:
        self.status = int(status[:3])
        told = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        self.headers = [*told, *self._more]

    def message(self) -> dict[str, Any]:
        self.started = True
        return {"type": "http.response.start", "status": self.status, "headers": self.headers}

    def run(self, wsgi: Wsgi, environ: Environ) -> None:
        """In a thread: ask Django. `rest` is the body then, or its last portion when others are sent."""
        chunks = wsgi(environ, self.start)
        try:
            portions = _portions(chunks)
            last = next(portions)
            for portion in portions:
                if not self.started:
                    self._send(self.message())
                self._send({"type": "http.response.body", "body": last, "more_body": True})
                last = portion
            self.rest = last
        finally:
            # Django ends its request here: signals, and the connection goes back to the pool.
            getattr(chunks, "close", lambda: None)()


def _portions(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The chunks, gathered to at least PORTION bytes; only the last may be smaller, or empty."""
    gathered: list[bytes] = []
    size = 0
    for chunk in chunks:
        gathered.append(chunk)
        size += len(chunk)
        if size >= PORTION:
            yield b"".join(gathered)
            gathered, size = [], 0
    yield b"".join(gathered)


def _send_from_thread(loop: asyncio.AbstractEventLoop, send: Send, message: Mapping[str, Any]) -> None:
    async def deliver() -> None:
        await send(dict(message))

    asyncio.run_coroutine_threadsafe(deliver(), loop).result(STALLED_SECONDS)


async def _finish(send: Send, response: _Response) -> None:
    if not response.started:
        await send(response.message())
    await send({"type": "http.response.body", "body": response.rest})


async def _refuse(scope: Mapping[str, Any], send: Send, error: _Refused, asked: requests.Asked) -> None:
    body = orjson.dumps(error.problem.document(instance=scope["path"], detail=error.detail))
    headers = [
        (b"content-type", problems.CONTENT_TYPE.encode()),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
        (b"x-content-type-options", b"nosniff"),
        asked.header,
    ]
    await send({"type": "http.response.start", "status": error.problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _check_charset(content_type: str) -> None:
    """Django decodes even the query by this charset, and falls over what is no charset of text (`hex`)."""
    try:
        charset = parse_header_parameters(content_type)[1].get("charset", "")
    except (LookupError, ValueError):  # ValueError: too long, or a parameter's own charset is none
        raise _Refused(problems.TYPE) from None
    if charset.lower() not in {"", "utf-8"}:
        raise _Refused(problems.TYPE)


def _headers(pairs: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """As CGI names them. Names with an underscore are dropped: they would pass for the one with a hyphen."""
    found: dict[str, str] = {}
    for raw_name, raw_value in pairs:
        if b"_" in raw_name:
            continue
        name = raw_name.decode("latin-1").upper().replace("-", "_")
        if name not in {"CONTENT_TYPE", "CONTENT_LENGTH"}:
            name = "HTTP_" + name
        value = raw_value.decode("latin-1")
        comma = "; " if name == "HTTP_COOKIE" else ","
        found[name] = found[name] + comma + value if name in found else value
    return found
