"""The front door: make one attempt at one delivery, and say what became of it."""

import asyncio
import functools
import logging
import ssl
import time
import traceback
from typing import Self

import yarl

from config.deadlines import within
from delivery import message as messages
from delivery import outcome as outcomes
from delivery import transport
from delivery.outcome import AttemptError, Outcome, Reason
from guard import addresses, headers, urls

logger = logging.getLogger(__name__)


class Sender:
    """Makes attempts, at most `connections` at once; further ones wait, and their deadline starts after that.

    `tls` and `lookup` replace the trusted certificates and the system's resolver.
    """

    def __init__(
        self,
        policy: addresses.Policy,
        *,
        connections: int,
        tls: ssl.SSLContext | None = None,
        lookup: transport.Lookup | None = None,
    ) -> None:
        self._checked = functools.lru_cache(maxsize=1024)(functools.partial(_checked, policy=policy))
        self._transport = transport.Transport(policy, connections=connections, tls=tls, lookup=lookup)
        self._free = asyncio.Semaphore(connections)

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._transport.__aexit__(*error)

    async def send(self, message: messages.Message, target: messages.Target, *, now: float) -> Outcome:
        """Send it once. `now`: Unix seconds by the database's clock. Raises nothing but CancelledError."""
        async with self._free:
            started = time.perf_counter_ns()
            trip = transport.Exchange(url=_NOWHERE)
            try:
                composed = self._prepare(message, target, now=int(now))
                trip.url = _parsed(composed.url) if composed.body is not None else _url(composed.url)
                async with within(target.timeout_seconds):
                    answer = await self._transport.exchange(composed, trip)
            except AttemptError as error:
                reason, detail, retry_after = error.reason, error.detail, None
            except TimeoutError:
                reason, detail, retry_after = Reason.TIMEOUT, _late(target, trip), None
            except Exception as error:  # noqa: BLE001  # whatever it is, the attempt needs its record
                reason, detail, retry_after = Reason.PROTOCOL, _unforeseen(error), None
            else:
                reason, detail = outcomes.of_status(answer.status), outcomes.describe(answer.status)
                retry_after = _retry_after(answer, now)
            return Outcome(
                reason=reason,
                status=trip.status,
                duration_us=(time.perf_counter_ns() - started) // 1000,
                address=trip.address,
                retry_after_seconds=retry_after,
                detail=outcomes.clean(detail),
            )

    def _prepare(self, message: messages.Message, target: messages.Target, *, now: int) -> messages.Composed:
        """Everything that was checked when the destination was saved is checked again."""
        try:
            url = self._checked(target.url, target.headers)
            if url != target.url:
                target = target._replace(url=url)
            return messages.compose(message, target, now=now)
        except urls.AddressRefused as error:
            raise AttemptError(Reason.BLOCKED, error.reason) from error
        except (urls.Refused, messages.Invalid) as error:
            raise AttemptError(Reason.INVALID_REQUEST, error.reason) from error
        except headers.Refused as error:
            raise AttemptError(Reason.INVALID_REQUEST, f"headers: {error}") from error


def _checked(url: str, sent: messages.Headers, *, policy: addresses.Policy) -> str:
    """The URL as it is dialled. Pure, so that what thousands of attempts share is checked once."""
    headers.check(dict(sent))
    return str(urls.check(url, policy=policy))


def _url(text: str) -> yarl.URL:
    return yarl.URL(text, encoded=True)


_parsed = functools.lru_cache(maxsize=1024)(_url)  # those that carry no event


def _retry_after(answer: transport.Answer, now: float) -> float | None:
    return outcomes.retry_after(answer.retry_after, now=now) if answer.status in (429, 503) else None


def _late(target: messages.Target, trip: transport.Exchange) -> str:
    if trip.protocol is None:
        missing = "connection"
    else:
        missing = "answer" if trip.status is None else "end of the answer"
    return f"no {missing} within {target.timeout_seconds:g} s"


def _unforeseen(error: Exception) -> str:
    """A bug of ours. The log gets its kind and place, not its words: they may carry a header or the event."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    logger.error("unexpected %s at %s:%s", type(error).__name__, place.filename, place.lineno)
    return f"unexpected {type(error).__name__}"


_NOWHERE = yarl.URL()
