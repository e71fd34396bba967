"""How does one request get to its destination, and nowhere else? The only outward HTTP.

httpx is the vocabulary and httpx-aiohttp the wire, without httpx's client, which is several times slower.
What this file promises beside speed:

- One exchange writes at most one request: no redirects, no repetition inside aiohttp.
- Every address is checked where it is dialled (the socket factory), where a name is resolved (any denied
  answer refuses the name), and again whenever a kept-alive connection is used. Host and TLS name stay the
  real ones.
- The answer is read into nothing: its head, its body and its raw bytes are capped, nothing is decompressed,
  and a connection whose answer was cut off is aborted, never kept.
"""

import asyncio
import contextvars
import errno
import functools
import io
import os
import select
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Self, cast

import aiohttp
import aiohttp.abc
import aiohttp.http_exceptions
import httpx
import yarl
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from httpx_aiohttp import AiohttpTransport
from multidict import CIMultiDict

from delivery.message import Composed
from delivery.outcome import AttemptError, Reason
from guard.addresses import Policy

CONNECT_SECONDS = 5.0  # resolving, connecting and TLS together
RESOLVE_SECONDS = 3.0
NAME_SECONDS = 5  # how long a name's checked addresses may be used again
IDLE_SECONDS = 5.0  # how long an unused connection is kept
CONNECTION_SECONDS = 60.0  # and a busy one: a name may have moved
ADDRESSES_DIALLED = 3  # of a name that has more
RESOLVER_THREADS = 32
HEAD_BYTES = 64 * 1024
HEAD_FIELDS = 128
FIELD_BYTES = 16 * 1024
BODY_BYTES = 256 * 1024  # what an honest page may have; more is a destination that misbehaves
PIECE_BYTES = 16 * 1024  # of an answer at one go
WHOLE_BYTES = 64 * 1024  # of a request at one go
FRAMED_BODY_BYTES = 8 * BODY_BYTES  # chunks of few bytes have more frame than content

Lookup = Callable[[str], Sequence[str]]


@dataclass(slots=True)
class Answer:
    status: int
    retry_after: str | None


@dataclass(slots=True)
class Exchange:
    """One request's way, filled as it goes: what is known when it fails in the middle."""

    url: yarl.URL
    address: str | None = None
    status: int | None = None
    protocol: "_Protocol | None" = field(default=None, repr=False)

    def abort(self) -> None:
        """Drop the connection, unless it went back to the pool and another exchange has it by now."""
        if self.protocol is not None and self.protocol.owner is self:
            self.protocol.drop()


# Set around each request. aiohttp's hooks run in the request's own task, so they find their exchange here.
_current: contextvars.ContextVar[Exchange] = contextvars.ContextVar("exchange")


class Transport:
    """Sends composed requests. `lookup` gives a name's addresses (blocking; runs in threads of its own)."""

    def __init__(
        self,
        policy: Policy,
        *,
        connections: int,
        tls: ssl.SSLContext | None = None,
        lookup: Lookup | None = None,
    ) -> None:
        self._policy = policy
        self._connections = connections
        self._tls = tls
        self._lookup = lookup or functools.partial(_addresses_of, ipv6=policy.ipv6)

    async def __aenter__(self) -> Self:
        tls = self._tls or _default_tls()
        self._resolver = _Resolver(self._policy, self._lookup)
        connector = _Connector(self._policy, self._resolver, tls=tls, most_idle=self._connections)
        self._session = _session(connector)
        self._wire = AiohttpTransport(client=self._session, verify=tls, trust_env=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()
        await self._resolver.close()

    async def exchange(self, composed: Composed, exchange: Exchange) -> Answer:
        """Send one request and read its answer to the end; raises AttemptError. The caller has the clock."""
        token = _current.set(exchange)
        complete = False
        try:
            answer = await self._send(composed, exchange)
            complete = True
        except AttemptError:
            raise
        except Exception as error:
            raise _failure(error, exchange) from error
        else:
            return answer
        finally:
            _current.reset(token)
            if not complete:
                exchange.abort()

    async def _send(self, composed: Composed, exchange: Exchange) -> Answer:
        response = await self._wire.handle_async_request(_Request(composed, exchange.url))
        exchange.status = response.status_code
        try:
            await _read(response)
        finally:
            await response.aclose()
        return Answer(response.status_code, response.headers.get("retry-after"))


class _Request(httpx.Request):
    """What the wire reads of an httpx request, without the parsing that httpx does for each: half the time.

    Header names keep their case. The URL has no path here: _write_exactly puts it in, and no error that
    aiohttp words can repeat it.
    """

    def __init__(self, composed: Composed, url: yarl.URL) -> None:
        self.method = composed.method
        self.url = _origin(str(url.origin()))
        self.headers = cast("httpx.Headers", CIMultiDict(composed.headers))
        self.extensions = {"timeout": {"pool": CONNECT_SECONDS}}
        body = composed.body or b""
        # aiohttp writes bytes at one go, and warns of large ones; a file goes out piece by piece.
        self._content = body if len(body) <= WHOLE_BYTES else cast("bytes", io.BytesIO(body))


_origin = functools.lru_cache(maxsize=1024)(httpx.URL)


async def _read(response: httpx.Response) -> None:
    size = 0
    async for chunk in response.stream:  # type: ignore[union-attr]  # of an asynchronous transport
        size += len(chunk)
        if size > BODY_BYTES:
            raise AttemptError(Reason.TOO_LARGE, f"the answer's body has more than {BODY_BYTES} bytes")


def _session(connector: "_Connector") -> aiohttp.ClientSession:
    session = aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        timeout=aiohttp.ClientTimeout(total=None),
        read_bufsize=PIECE_BYTES,
        max_line_size=FIELD_BYTES,
        max_field_size=FIELD_BYTES,
        max_headers=HEAD_FIELDS,
        middlewares=(_write_exactly,),
    )
    # aiohttp repeats GET, PUT and DELETE by itself when a kept connection drops, also after the request was
    # read: a second sighting without a record. There is no public switch.
    session._retry_connection = False  # noqa: SLF001  # pinned by tests, per method
    return session


async def _write_exactly(
    request: aiohttp.ClientRequest, handler: Callable[[aiohttp.ClientRequest], Any]
) -> aiohttp.ClientResponse:
    """Put the URL on the wire as it was composed (and signed), not as two libraries would write it again."""
    request.url = _current.get().url
    response: aiohttp.ClientResponse = await handler(request)
    response.reason = None  # httpx-aiohttp fails on one that is not UTF-8
    return response


class _Connector(aiohttp.TCPConnector):
    """Dials checked addresses only, and hands out no connection that is stale, old or no longer permitted."""

    def __init__(self, policy: Policy, resolver: "_Resolver", *, tls: ssl.SSLContext, most_idle: int) -> None:
        super().__init__(
            resolver=resolver,
            ttl_dns_cache=NAME_SECONDS,
            keepalive_timeout=IDLE_SECONDS,
            limit=0,  # the sender's own limit counts, so that nobody waits in here against the deadline
            happy_eyeballs_delay=None,
            socket_factory=self._open_socket,
            ssl=tls,
        )
        self._policy = policy
        self._most_idle = most_idle
        factory = functools.partial(_Protocol, loop=asyncio.get_running_loop())
        self._factory = cast("functools.partial[ResponseHandler]", factory)

    def _open_socket(self, info: Any) -> socket.socket:
        """The last step before dialling, for names and literal addresses alike."""
        family, kind, protocol, _, (address, port, *_) = info
        if not self._policy.permits(address, port):
            raise _blocked()
        _current.get().address = address
        return socket.socket(family, kind, protocol)

    async def connect(self, req: aiohttp.ClientRequest, *args: Any, **kwargs: Any) -> Connection:
        """A connection that nothing was written to yet, so a stale one may be replaced by the next."""
        exchange = _current.get()
        while True:
            connection = await super().connect(req, *args, **kwargs)
            protocol = connection.protocol
            assert isinstance(protocol, _Protocol)  # noqa: S101  # for the type checker: our factory made it
            if protocol.is_fit():
                break
            connection.close()
        if not protocol.address:  # it was reset before anybody could ask whose it is
            connection.close()
            raise AttemptError(Reason.RESET, "the destination reset the connection")
        exchange.address = protocol.address
        if not self._policy.permits(protocol.address, req.url.port or 0):
            connection.close()
            raise _blocked()
        exchange.protocol = protocol
        protocol.owner = exchange
        return connection

    def _release(self, key: Any, protocol: ResponseHandler, *, should_close: bool = False) -> None:
        """Keep at most so many idle: thousands of destinations must not use up the descriptors."""
        idle = sum(map(len, self._conns.values()))
        super()._release(key, protocol, should_close=should_close or idle >= self._most_idle)


class _Protocol(ResponseHandler):
    """One connection, which counts what it reads: heads and frames have caps as bodies have."""

    address = ""
    owner: Exchange | None = None
    overflowed = False
    _wire: asyncio.Transport | None = None
    _born = 0.0
    _used = False
    _poll: "select.poll | None" = None
    _read_bytes = 0
    _most_bytes = HEAD_BYTES
    _in_head = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._wire = cast("asyncio.Transport", transport)  # kept after close(), which forgets it
        self._born = time.monotonic()
        peer = transport.get_extra_info("peername")
        self.address = peer[0] if peer else ""

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self._wire = None  # asyncio's survives no abort after a close that had something left to write

    def drop(self) -> None:
        """End it now: a graceful close would wait for a peer that may never read or say good-bye."""
        if self._wire is not None:
            self._wire.abort()

    def is_fit(self) -> bool:
        """Whether the next request may be written here.

        A kept connection may have been closed a moment ago, before the loop noticed: then, or when it has
        said something that nobody asked for, its socket is readable.
        """
        if not self._used:
            self._used = True
            return True
        if self.transport is None or time.monotonic() - self._born > CONNECTION_SECONDS:
            return False
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        return not self._poll.poll(0)

    def set_response_params(self, **kwargs: Any) -> None:
        self._read_bytes, self._most_bytes, self._in_head = 0, HEAD_BYTES, True
        super().set_response_params(**kwargs)

    def feed_data(self, data: Any, size: int = 0) -> None:
        if data[0].code >= 200:  # not an interim answer: the head is over
            self._most_bytes, self._in_head = self._read_bytes + FRAMED_BODY_BYTES, False
        super().feed_data(data, size)

    def data_received(self, data: bytes) -> None:
        while self._in_head and len(data) > PIECE_BYTES:  # so that the cap is kept within one large read
            self._take(data[:PIECE_BYTES])
            data = data[PIECE_BYTES:]
            if self.overflowed:
                return
        self._take(data)

    def _take(self, data: bytes) -> None:
        self._read_bytes += len(data)
        super().data_received(data)
        error = self.exception()
        if self._read_bytes > self._most_bytes:
            self._overflow()
        elif error is not None:
            if self._payload is not None:
                self._payload.set_exception(error)  # aiohttp forgets it: a bad chunk would wait till the end
            self.drop()  # now: aiohttp closes it twice, and after that asyncio's TLS can't be aborted

    def _overflow(self) -> None:
        self.overflowed = True
        error = AttemptError(Reason.TOO_LARGE, "the answer has too many bytes")
        if self._payload is not None:
            self._payload.set_exception(error)
        self.set_exception(error)
        self.drop()


class _Resolver(aiohttp.abc.AbstractResolver):
    """Names to checked addresses, in threads, with a limit of time and one thread at most for each name."""

    def __init__(self, policy: Policy, lookup: Lookup) -> None:
        self._policy = policy
        self._lookup = lookup
        self._threads = ThreadPoolExecutor(RESOLVER_THREADS, thread_name_prefix="resolver")
        self._running: dict[str, asyncio.Future[Sequence[str]]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[aiohttp.abc.ResolveResult]:
        addresses = await self._addresses(host)
        if not addresses:
            raise AttemptError(Reason.DNS, "the name has no address")
        if not all(self._policy.permits(address, port) for address in addresses):
            raise _blocked()
        return [
            aiohttp.abc.ResolveResult(
                hostname=host, host=address, port=port, family=family, proto=0, flags=socket.AI_NUMERICHOST
            )
            for address in addresses[:ADDRESSES_DIALLED]
        ]

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _addresses(self, host: str) -> Sequence[str]:
        running = self._running.get(host)
        if running is None:
            running = asyncio.get_running_loop().run_in_executor(self._threads, self._lookup, host)
            self._running[host] = running
            running.add_done_callback(functools.partial(self._looked_up, host))
        try:
            # getaddrinfo knows no timeout: it may go on in its thread when we no longer wait.
            async with asyncio.timeout(RESOLVE_SECONDS):
                return await asyncio.shield(running)
        except TimeoutError:
            raise AttemptError(Reason.DNS, "the name servers did not answer in time") from None
        except socket.gaierror as error:
            raise AttemptError(Reason.DNS, f"the name does not resolve: {error.strerror}") from error
        except (OSError, UnicodeError) as error:
            raise AttemptError(Reason.DNS, "the name does not resolve") from error

    def _looked_up(self, host: str, future: asyncio.Future[Sequence[str]]) -> None:
        self._running.pop(host, None)
        if not future.cancelled():
            future.exception()  # nobody may be waiting for it any more


def _addresses_of(host: str, *, ipv6: bool) -> list[str]:
    family = socket.AF_UNSPEC if ipv6 else socket.AF_INET
    found = socket.getaddrinfo(host, None, family=family, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in found))


@functools.cache
def _default_tls() -> ssl.SSLContext:
    context = httpx.create_ssl_context(trust_env=False)
    context.set_alpn_protocols(["http/1.1"])
    return context


def _blocked() -> AttemptError:
    return AttemptError(Reason.BLOCKED, "the destination's address may not be dialled")


def _failure(error: Exception, exchange: Exchange) -> AttemptError:
    """What an exception of the wire means. httpx-aiohttp's own classes say little: the causes tell."""
    if exchange.protocol is not None and exchange.protocol.overflowed:
        return AttemptError(Reason.TOO_LARGE, "the answer has too many bytes")
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and len(chain) < 10:
        chain.append(link)
        link = link.__cause__
    for rule in _RULES:
        for link in reversed(chain):  # the first cause says most
            failure = rule(link)
            if failure is not None:
                return failure
    return AttemptError(Reason.PROTOCOL, f"unexpected {type(error).__name__}")


def _as_ours(error: BaseException) -> AttemptError | None:
    return error if isinstance(error, AttemptError) else None


def _as_timeout(error: BaseException) -> AttemptError | None:
    if isinstance(error, aiohttp.ServerTimeoutError) or _errno(error) == errno.ETIMEDOUT:
        return AttemptError(Reason.TIMEOUT, f"no connection within {CONNECT_SECONDS:g} s")
    return None


def _as_tls(error: BaseException) -> AttemptError | None:
    if isinstance(error, ssl.SSLCertVerificationError):
        return AttemptError(Reason.TLS, f"certificate: {error.verify_message}")
    if isinstance(error, ssl.SSLError):
        return AttemptError(Reason.TLS, f"TLS failed: {error.reason or 'no reason given'}")
    return None


def _as_connection(error: BaseException) -> AttemptError | None:
    if isinstance(error, ConnectionResetError | BrokenPipeError | ConnectionAbortedError):
        return AttemptError(Reason.RESET, "the destination reset the connection")
    if isinstance(error, aiohttp.ClientConnectorError) and not isinstance(error, aiohttp.ClientSSLError):
        if error.os_error.errno in (errno.ECONNRESET, errno.EPIPE, None):
            return AttemptError(Reason.RESET, "the connection ended before it was ready")
        return AttemptError(Reason.REFUSED, f"no connection: {os.strerror(error.os_error.errno)}")
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return AttemptError(Reason.RESET, "the destination closed the connection without an answer")
    return None


def _as_answer(error: BaseException) -> AttemptError | None:
    if isinstance(error, aiohttp.http_exceptions.HttpProcessingError) and error.message.startswith(
        ("Too many headers", "Got more than")
    ):
        return AttemptError(Reason.TOO_LARGE, "the answer's head has too many or too long lines")
    if isinstance(error, aiohttp.ClientPayloadError) and str(error).startswith("Response payload is not"):
        return AttemptError(Reason.RESET, "the connection ended before the answer's body did")
    return None


def _as_other(error: BaseException) -> AttemptError | None:
    if isinstance(error, aiohttp.ClientPayloadError | OSError | aiohttp.ClientConnectionError):
        return AttemptError(Reason.RESET, "the connection ended before the answer did")
    if isinstance(error, aiohttp.http_exceptions.HttpProcessingError):
        return AttemptError(Reason.PROTOCOL, "the answer is not HTTP/1.1")
    if isinstance(error, aiohttp.InvalidURL | httpx.InvalidURL):
        return AttemptError(Reason.INVALID_REQUEST, "the request can't be written")
    return None


def _errno(error: BaseException) -> int | None:
    return error.errno if isinstance(error, OSError) else None


_RULES = (_as_ours, _as_timeout, _as_tls, _as_connection, _as_answer, _as_other)
