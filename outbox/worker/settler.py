"""How do outcomes get into the database? Together: what arrives during a settle goes with the next.

A settle whose connection is lost may or may not have happened. It is done again: fence and attempt make the
second do nothing if the first did. That goes on while the lease lasts; after it the row is another's, and the
next claim has recorded or will record the interruption.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import psycopg

from outbox import claims
from outbox.claims import Settlement
from outbox.lines import Line
from outbox.worker import clock
from outbox.worker.faults import Faults, Pause
from outbox.worker.leases import Lease

logger = logging.getLogger("outbox.worker")

MOST = 500
LINGER_SECONDS = 0.01
LOAD_LINGER_SECONDS = 0.05
FEW = 8


@dataclass(frozen=True, slots=True)
class _Outcome:
    settlement: Settlement
    until: float
    then: Callable[[], None] | None


@dataclass(slots=True)
class _Returns:
    """Leases that go back unsent."""

    ready: list[Lease] = field(default_factory=list)
    held: list[Lease] = field(default_factory=list)
    excess: list[Lease] = field(default_factory=list)


class Settler:
    """`returned` hears when excess was given back, so that it can be claimed again."""

    def __init__(self, line: Line, faults: Faults, *, returned: Callable[[], None]) -> None:
        self._line = line
        self._faults = faults
        self._outcomes: deque[_Outcome] = deque()
        self._returns = _Returns()
        self._returned = returned
        self._news = asyncio.Event()
        self._rest = asyncio.Event()
        self._rest.set()

    @property
    def waiting(self) -> int:
        return len(self._outcomes)

    def settle(self, lease: Lease, settlement: Settlement, *, then: Callable[[], None] | None = None) -> None:
        """`then` is called once the outcome is in the database, or can't get there any more."""
        self._outcomes.append(_Outcome(settlement, lease.until, then))
        self._wake()

    def release(self, lease: Lease, *, held: bool = False) -> None:
        (self._returns.held if held else self._returns.ready).append(lease)
        self._wake()

    def give_back(self, lease: Lease) -> None:
        """More of its destination was claimed than could start. It goes behind what became due meanwhile."""
        self._returns.excess.append(lease)
        self._wake()

    async def idle(self, within: float) -> bool:
        """Wait until everything has been written; False when it was not so `within` that many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._rest.wait()
        return self._rest.is_set()

    async def run(self) -> None:
        """For ever; meant to be cancelled once idle."""
        settled_at = 0.0
        while True:
            await self._news.wait()
            await self._linger(settled_at)
            self._news.clear()
            try:
                await self._write_returns()
                await self._write_outcomes()
            except Exception as error:  # noqa: BLE001 - one batch that can't be written must not end the rest
                self._faults.note("settling", error)
            settled_at = clock.now()
            if not self._news.is_set():
                self._rest.set()

    async def _linger(self, settled_at: float) -> None:
        """Under load, more go with this settle; what comes alone goes at once."""
        if FEW < len(self._outcomes) < MOST:
            await asyncio.sleep(LOAD_LINGER_SECONDS)
        elif len(self._outcomes) < MOST and clock.now() - settled_at < LINGER_SECONDS:
            await asyncio.sleep(LINGER_SECONDS)

    def _wake(self) -> None:
        self._rest.clear()
        self._news.set()

    async def _write_outcomes(self) -> None:
        while self._outcomes:
            batch = [self._outcomes.popleft() for _ in range(min(MOST, len(self._outcomes)))]
            await self._settle(batch)
            for outcome in batch:
                if outcome.then is not None:
                    outcome.then()

    async def _settle(self, batch: Sequence[_Outcome]) -> None:
        pause = Pause()
        while current := [outcome for outcome in batch if outcome.until > clock.now()]:
            try:
                ours = await self._settle_once(current)
            except psycopg.Error as error:
                self._faults.note("settling", error)
                if _is_the_data(error):
                    await self._settle_apart(current)
                    return
                await pause.wait()
            else:
                break
        else:
            ours = 0
        if ours < len(batch):
            logger.info("%d outcomes came after their lease and changed nothing", len(batch) - ours)

    async def _settle_once(self, batch: Sequence[_Outcome]) -> int:
        settlements = [outcome.settlement for outcome in batch]
        return len(await self._line.run(lambda connection: claims.settle(connection, settlements)))

    async def _settle_apart(self, batch: Sequence[_Outcome]) -> None:
        """Something in the batch can't be written: find it by halves, and write of it what can be."""
        if len(batch) > 1:
            middle = len(batch) // 2
            await self._settle(batch[:middle])
            await self._settle(batch[middle:])
            return
        outcome = batch[0]
        plain = {**outcome.settlement.data, "detail": "", "address": None}
        if plain != outcome.settlement.data:
            await self._settle([replace(outcome, settlement=outcome.settlement._replace(data=plain))])

    async def _write_returns(self) -> None:
        returns, self._returns = self._returns, _Returns()
        await self._release(returns.ready, held=False)
        await self._release(returns.held, held=True)
        if returns.excess:
            await self._release(returns.excess, held=False)
            self._returned()

    async def _release(self, leases: Sequence[Lease], *, held: bool) -> None:
        pause = Pause()
        while leases := [lease for lease in leases if lease.left() > 0]:
            given_back = [lease.claim for lease in leases]
            try:
                await self._line.run(
                    lambda connection, rows=given_back: claims.release(connection, rows, held=held)  # type: ignore[misc]  # mypy can't infer a lambda's defaults
                )
            except psycopg.Error as error:
                self._faults.note("releasing", error)
                await pause.wait()
            else:
                return


def _is_the_data(error: psycopg.Error) -> bool:
    """Would the same rows fail again for what they say, rather than for the server's state?"""
    return isinstance(error, psycopg.DataError | psycopg.IntegrityError | psycopg.NotSupportedError)
