"""What happens to a claimed delivery? It is sent if it still may be, and the settler hears the outcome."""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import psycopg
from django.conf import settings
from django.db import connections

from accounts import operations
from accounts.routes import Route
from delivery.attempt import Sender
from delivery.message import Message, Target
from delivery.outcome import Outcome, Reason
from outbox import retry
from outbox.claims import Claim, Settlement
from outbox.lines import Line
from outbox.retry import Verdict
from outbox.worker import clock, routes
from outbox.worker.faults import Faults
from outbox.worker.leases import Lease
from outbox.worker.routes import Reading
from outbox.worker.settler import Settler

logger = logging.getLogger("outbox.worker")

# The operator may bring the key back, so it is tried again.
_UNREADABLE = Outcome(
    reason=Reason.PROTOCOL,
    status=None,
    duration_us=0,
    address=None,
    retry_after_seconds=None,
    detail="The destination's headers or secrets can't be decrypted.",
)


class Sending:
    """Give it a reading of the destinations first; then `send` any lease of theirs, many at a time."""

    def __init__(self, *, sender: Sender, settler: Settler, line: Line, faults: Faults) -> None:
        self._sender = sender
        self._settler = settler
        self._line = line
        self._faults = faults
        self._readings: dict[UUID, Reading] = {}
        self._deactivating: dict[UUID, asyncio.Task[None]] = {}
        self._succeeded_at: dict[UUID, float] = {}

    def unknown(self, destination_ids: set[UUID]) -> set[UUID]:
        """Which of them must be read before a send: one reading serves the claims of a moment."""
        known = self._readings
        return {one for one in destination_ids if one not in known or not known[one].is_new()}

    def know(self, reading: Reading, destination_ids: set[UUID]) -> None:
        self._readings = {known: old for known, old in self._readings.items() if old.is_fresh()}
        self._readings |= dict.fromkeys(destination_ids, reading)
        long_ago = clock.now() - settings.DELIVERY_TIMEOUT_MAX
        self._succeeded_at = {known: at for known, at in self._succeeded_at.items() if at > long_ago}

    def is_paused(self, destination_id: UUID) -> bool:
        """As far as the last reading tells."""
        reading = self._readings.get(destination_id)
        return bool(reading and (route := reading.found.get(destination_id)) and route.paused)

    async def send(self, lease: Lease) -> bool:
        """Whether the destination did anything within its deadline, were it to refuse.

        Never raises: what fails here lapses with its lease, and is recorded then.
        """
        try:
            return await self._send(lease)
        except psycopg.Error as error:
            self._faults.note("reading a destination", error)
            self._settler.release(lease)
        except Exception as error:  # noqa: BLE001 - one delivery must not end the others
            self._faults.note("sending", error)
        return False

    async def deactivated(self) -> None:
        """Wait for the destinations that said that they are gone."""
        await asyncio.gather(*self._deactivating.values())

    async def _send(self, lease: Lease) -> bool:
        claim = lease.claim
        reading = self._readings.get(claim.destination_id)
        if reading is None or not reading.is_fresh():
            reading = await routes.read(self._line, [claim.destination_id], self._faults)
        route = reading.found.get(claim.destination_id)
        if claim.destination_id in reading.unreadable:
            self._conclude(lease, _UNREADABLE, settings.RETRY_SCHEDULE)
        elif route is None:
            self._settler.settle(lease, _cancelled(claim, "destination_deleted"))
        elif final := _final(claim, route):
            self._settler.settle(lease, final)
        elif route.paused:
            self._settler.release(lease, held=True)
        elif lease.left() < _timeout(route) + settings.LEASE_MARGIN_SECONDS:
            self._settler.release(lease)
        else:
            return await self._attempt(lease, route)
        return False

    async def _attempt(self, lease: Lease, route: Route) -> bool:
        claim = lease.claim
        message = Message(claim.delivery_id, claim.client_event_id, claim.attempt, claim.body)
        target = Target(
            url=route.url,
            method=route.http_method,
            headers=route.headers,
            secrets=route.signing_secrets,
            timeout_seconds=_timeout(route),
        )
        outcome = await self._sender.send(message, target, now=lease.database_time())
        self._conclude(lease, outcome, route.retry_schedule_seconds)
        return outcome.reason is not Reason.TIMEOUT

    def _conclude(self, lease: Lease, outcome: Outcome, schedule: Sequence[int]) -> None:
        claim = lease.claim
        if logger.isEnabledFor(logging.DEBUG):  # history has each attempt; this is for watching one
            logger.debug("attempt %d: %s", claim.attempt, outcome.reason.value, extra=_seen(claim, outcome))
        decision = retry.decide(
            outcome,
            attempt=claim.turn,
            schedule=schedule,
            jitter=settings.RETRY_JITTER,
            random=random.random,
            refusals=claim.refusals,
        )
        settlement = Settlement(
            claim=claim._replace(body=b""),  # it may wait for a database that is away
            verdict=decision.verdict,
            data=_record(claim, outcome),
            delay_ms=decision.delay_ms,
            in_a_row=self._is_in_a_row(claim.destination_id, outcome),
        )
        then = self._gone(claim.destination_id) if decision.deactivate else None
        self._settler.settle(lease, settlement, then=then)

    def _is_in_a_row(self, destination_id: UUID, outcome: Outcome) -> bool:
        """No: another attempt here succeeded while this one lasted. Timeouts settle late and all at once."""
        if outcome.reason is Reason.DELIVERED:
            self._succeeded_at[destination_id] = clock.now()
        began = clock.now() - outcome.duration_us / 1_000_000
        return self._succeeded_at.get(destination_id, 0.0) < began

    def _gone(self, destination_id: UUID) -> Callable[[], None]:
        """Deactivates once, however many deliveries hear that the destination is gone."""

        def start() -> None:
            if destination_id not in self._deactivating:
                task = asyncio.get_running_loop().create_task(self._deactivate(destination_id))
                self._deactivating[destination_id] = task
                task.add_done_callback(lambda _: self._deactivating.pop(destination_id, None))

        return start

    async def _deactivate(self, destination_id: UUID) -> None:
        try:
            await asyncio.to_thread(_deactivate, destination_id)
        except Exception as error:  # noqa: BLE001 - the next delivery hears 410 again
            self._faults.note("deactivating a destination", error)


def _timeout(route: Route) -> int:
    """A destination saved under a larger bound must not outlive its lease: it would never be sent."""
    return min(route.timeout_seconds, settings.DELIVERY_TIMEOUT_MAX)


def _deactivate(destination_id: UUID) -> None:
    try:
        operations.deactivate_destination(destination_id=destination_id, reason="gone")
    finally:
        connections.close_all()


def _final(claim: Claim, route: Route) -> Settlement | None:
    """How the delivery ends without being sent, if it does."""
    if not route.active:
        return _cancelled(claim, "destination_inactive")
    if claim.turn > retry.attempts_allowed(route.retry_schedule_seconds):
        # The last attempt's lease lapsed. Its interruption is on record; there is no further attempt to make.
        return Settlement(claim=claim, verdict=Verdict.EXHAUSTED, data=claim.ids | {"reason": "interrupted"})
    return None


def _cancelled(claim: Claim, reason: str) -> Settlement:
    return Settlement(claim=claim, verdict=Verdict.CANCELLED, data=claim.ids | {"reason": reason})


def _seen(claim: Claim, outcome: Outcome) -> dict[str, Any]:
    return {
        "delivery_id": claim.delivery_id,
        "destination_id": claim.destination_id,
        "status": outcome.status,
        "duration_ms": outcome.duration_us / 1000,
    }


def _record(claim: Claim, outcome: Outcome) -> dict[str, Any]:
    return {
        "attempt": claim.attempt,
        **claim.ids,
        "reason": outcome.reason.value,
        "status": outcome.status,
        "duration_us": outcome.duration_us,
        "address": outcome.address,
        "detail": outcome.detail,
    }
