"""How is the gateway doing, in Prometheus' text format (`/metrics`)?

What the receiver answered is counted in the process; what is stored is asked of the rooms, once a second at
most and in bounded time. No label names an account or a destination. A database that is away is a number as
well: `data_pusher_up` is 0 then, and the answer still a 200.
"""

import asyncio
import contextlib
import hmac
import ipaddress
import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import orjson
from prometheus_client import CollectorRegistry, Counter, ProcessCollector, multiprocess
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from api import callers, problems, receiver
from api.asking import Asking
from api.body import Receive, Send
from config.release import VERSION
from eventstore import lag
from outbox import queries as outbox

if TYPE_CHECKING:
    from api.measured import State
    from delivery.queries import Count

PATH = "/metrics"
PATHS = frozenset((PATH,))
FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # set by the web command where several processes serve
PATIENCE_SECONDS = 2.0
SHARE_SECONDS = 1.0
# Whoever sends one of these came through a proxy, so that a connection from this host says nothing.
_PASSED_ON = frozenset(
    (b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-real-ip", b"via")
)

type Problem = tuple[problems.Problem, tuple[tuple[bytes, bytes], ...]]


class Metrics:
    """An ASGI application for PATHS. `answered`: how often the receiver gave each of its answers."""

    def __init__(
        self,
        answered: Mapping[str, int],
        *,
        ask: "Callable[[], State | None]",
        token: str = "",
    ) -> None:
        self._token = token.encode("ascii")
        self._asking = Asking(ask, name="metrics")
        self._shared = _Shared(answered) if FOLDER in os.environ else None
        self._own = CollectorRegistry()
        if self._shared is None:
            self._own.register(_Answered(answered))
            ProcessCollector(registry=self._own)
        self._sharing: asyncio.Task[None] | None = None

    async def __call__(self, scope: Mapping[str, Any], _receive: Receive, send: Send) -> None:
        if scope["method"] not in {"GET", "HEAD"}:
            await _refuse(send, (problems.METHOD, ((b"allow", b"GET, HEAD"),)))
        elif refusal := self._refusal(scope):
            await _refuse(send, refusal)
        else:
            found = await self._asking.current(patience_seconds=PATIENCE_SECONDS)
            await _answer(send, 200, CONTENT_TYPE_PLAIN_0_0_4.encode(), self._text(found))

    async def start(self) -> None:
        if self._shared is not None:
            self._sharing = asyncio.create_task(self._shared.for_ever())

    async def stop(self) -> None:
        if self._sharing is not None:
            self._sharing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sharing
        if self._shared is not None:
            self._shared.tell()
        self._asking.close()

    def _text(self, found: "State | None") -> bytes:
        registry = CollectorRegistry()
        registry.register(_Told(found))
        if self._shared is not None:
            self._shared.tell()
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # it has no types
        return generate_latest(self._own) + generate_latest(registry)

    def _refusal(self, scope: Mapping[str, Any]) -> Problem | None:
        """With a token: whoever presents it. Without: who connects directly, from this very host."""
        headers = {name.lower(): value for name, value in scope["headers"]}
        if not self._token:
            return None if _direct(scope, headers) else (problems.NOT_FOUND, ())
        scheme, _, presented = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() == b"bearer" and hmac.compare_digest(presented.strip(), self._token):
            return None
        return problems.UNAUTHENTICATED, ((b"www-authenticate", b'Bearer realm="Data Pusher metrics"'),)


def _direct(scope: Mapping[str, Any], headers: Mapping[bytes, bytes]) -> bool:
    host = (scope.get("client") or ("",))[0]
    address = callers.address_in({"REMOTE_ADDR": host})
    return ipaddress.ip_address(address).is_loopback and not _PASSED_ON & headers.keys()


async def _refuse(send: Send, refusal: Problem) -> None:
    problem, headers = refusal
    body = orjson.dumps(problem.document(instance=PATH))
    await _answer(send, problem.status, problems.CONTENT_TYPE.encode(), body, *headers)


async def _answer(send: Send, status: int, kind: bytes, body: bytes, *more: tuple[bytes, bytes]) -> None:
    headers = [
        (b"content-type", kind),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        *more,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


# --- what this process counts -----------------------------------------------------------------------------

_ACCEPTED = "data_pusher_received_events"
_ACCEPTED_HELP = "Events answered with a 2xx by the receiver: stored now, or known already (duplicate)."
_REFUSED = "data_pusher_refused_events"
_REFUSED_HELP = "Requests that the receiver refused, by reason; rate_limited: over the account's limit."


class _Answered(Collector):
    """The receiver's own counts, read when asked."""

    def __init__(self, answered: Mapping[str, int]) -> None:
        self._answered = answered

    def collect(self) -> Iterable[Metric]:
        accepted = CounterMetricFamily(_ACCEPTED, _ACCEPTED_HELP, labels=["outcome"])
        refused = CounterMetricFamily(_REFUSED, _REFUSED_HELP, labels=["reason"])
        for reason, number in self._answered.items():
            (accepted if reason in receiver.STORED else refused).add_metric([reason], number)
        return accepted, refused


class _Shared:
    """The same where several processes serve: any of them may be asked, so all write to files in one folder.

    Not by every request, which would cost the hot path three times what counting does: once a second.
    """

    def __init__(self, answered: Mapping[str, int]) -> None:
        self._answered = answered
        self._told = dict.fromkeys(answered, 0)
        accepted = Counter(_ACCEPTED, _ACCEPTED_HELP, ["outcome"], registry=None)
        refused = Counter(_REFUSED, _REFUSED_HELP, ["reason"], registry=None)
        self._counters = {
            reason: (accepted if reason in receiver.STORED else refused).labels(reason) for reason in answered
        }

    def tell(self) -> None:
        for reason, number in self._answered.items():
            if more := number - self._told[reason]:
                self._counters[reason].inc(more)
                self._told[reason] = number

    async def for_ever(self) -> None:
        while True:
            self.tell()
            await asyncio.sleep(SHARE_SECONDS)


# --- what the database tells ------------------------------------------------------------------------------


class _Told(Collector):
    def __init__(self, found: "State | None") -> None:
        self._found = found

    def collect(self) -> Iterator[Metric]:
        build = {"version": VERSION, "python": platform.python_version()}
        yield InfoMetricFamily("data_pusher_build", "Which release this is.", value=build)
        yield _gauge(
            "up",
            "1: the database answered this time; 0: all that it tells is missing.",
            float(self._found is not None),
        )
        if self._found is not None:
            yield from _waiting(self._found.depth)
            yield from _lagging(self._found.unsealed, self._found.behind)
            yield from _counted(self._found.totals)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"data_pusher_{name}", text, value=value)


def _labelled(name: str, text: str, label: str, values: Iterable[tuple[str, float]]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"data_pusher_{name}", text, labels=[label])
    for value, number in values:
        family.add_metric([value], number)
    return family


def _waiting(depth: outbox.Depth) -> Iterator[Metric]:
    yield _labelled(
        "outbox_deliveries",
        "Deliveries that wait: due now, claimed by a worker, scheduled for later, or held back (their "
        f"destination is paused, or too many of it wait). Each is counted up to {outbox.CAP}.",
        "state",
        [(name, getattr(depth, name)) for name in ("due", "claimed", "scheduled", "held")],
    )
    yield _gauge(
        "outbox_deliveries_estimated",
        "All deliveries that wait, as PostgreSQL last estimated them; not capped.",
        depth.estimated,
    )
    yield _gauge(
        "outbox_oldest_due_seconds",
        "How long the first of the due deliveries has been due; 0 when none is.",
        depth.oldest_due_seconds,
    )
    yield _gauge(
        "destinations_resting", "Destinations that rest because they failed too often.", depth.resting
    )


def _lagging(unsealed: lag.Unsealed, behind: list[lag.Behind]) -> Iterator[Metric]:
    yield _gauge(
        "unsealed_events", f"Events that are in no block yet, counted up to {lag.CAP}.", unsealed.events
    )
    yield _gauge("seal_lag_seconds", "Age of the oldest event that is in no block yet.", unsealed.seconds)
    yield _labelled(
        "projection_lag_blocks",
        "Sealed blocks that a projection has still to apply.",
        "projection",
        [(one.projection, one.blocks) for one in behind],
    )
    yield _labelled(
        "projection_lag_seconds",
        "How long the first of these blocks has been sealed; 0 when there is none.",
        "projection",
        [(one.projection, one.seconds) for one in behind],
    )


def _counted(totals: "list[Count]") -> Iterator[Metric]:
    events: dict[str, int] = {}
    attempts: dict[str, int] = {}
    for one in totals:
        events[one.type] = events.get(one.type, 0) + one.number
        if one.attempt:
            attempts[one.reason] = attempts.get(one.reason, 0) + one.number
    yield _totals("history_events", "Sealed events of the history, of all hosts, by type.", "type", events)
    yield _totals(
        "delivery_attempts", "Attempts that ended, of all hosts, by their outcome.", "outcome", attempts
    )


def _totals(name: str, text: str, label: str, numbers: Mapping[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(f"data_pusher_{name}", text, labels=[label])
    for value, number in sorted(numbers.items()):
        family.add_metric([value], number)
    return family
