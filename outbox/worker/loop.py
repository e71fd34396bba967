"""How do deliveries flow through one drain? Claim what can start now, send it, settle it, and claim again.

    slot taken -> claiming | sending | settling | housekeeping, side by side -> told to stop, or time over
    -> claiming stops, sends in flight land, all is settled, the slot goes back

No transaction is ever open while something is sent. If the database goes away, sends in flight land, and are
settled when it is back if their lease lasts.
"""

import asyncio
import contextlib
import enum
import logging
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID, uuid4

from django.conf import settings

from delivery.attempt import Sender
from guard.addresses import Policy
from outbox import claims, slots
from outbox.claims import Batch, Claim, Marks
from outbox.lines import Line
from outbox.worker import clock, housekeeping, leases, routes, stopping
from outbox.worker.faults import Faults, Pause
from outbox.worker.flights import Flights
from outbox.worker.housekeeping import Housekeeping
from outbox.worker.leases import Lease
from outbox.worker.pulse import Pulse
from outbox.worker.sending import Sending
from outbox.worker.settler import Settler

logger = logging.getLogger("outbox.worker")

POLL_SECONDS = 1.0  # enough by itself, should every notification get lost
MARKS_SHARE = 50  # so many times what reading the marks took goes by before the next reading
MARKS_SECONDS = 10.0  # but no longer: until then they may hide what committed late (see claims.Marks)
MARKS_STEP_SECONDS = 0.1  # between readings they follow the claims, from where they are
MARKS_GRACE_SECONDS = 5.0  # a reading that is later than this has failed
LOOK_SECONDS = 0.1  # how often we look whether to stop
BREATH_SECONDS = 0.004  # under load, so that a claim brings more than a row or two
PACE_SECONDS = 0.01  # from a claim that brought something to the next: each has a price of its own
LOAD_PACE_SECONDS = 0.03  # if it brought more than a few
FEW = 4
HAND_OVER_SECONDS = 1.0  # what is still in flight then no longer keeps the successor waiting
SETTLING_SECONDS = 2.0  # of the grace: to write down what has landed
LEAVING_SECONDS = 3.0  # of the grace: for the processes around the drain to end
SUSPECTS_SHARE = 4  # so many times what a suspect took goes by before the next, if anything else waits
QUICK_SUSPECT_SECONDS = 0.25  # or if it took longer: what comes meanwhile must not wait for the next such
SUSPECT_LAPSES = 2  # a row that ended so many workers is claimed alone (outbox/sql/claim.sql) and sent alone
MOST_UNSETTLED = 2000

type HandOver = Callable[[], None]


class Ending(enum.StrEnum):
    """Why a drain ended."""

    TAKEN = "the slot was another's"
    OVER = "its time was over"
    TOLD = "it was told to stop"
    LOST = "its slot went to another"


class Drain:
    """One run. `hand_over` is called in a thread once the slot is free, unless the drain was told to stop."""

    def __init__(self, *, slot: int, seconds: float, hand_over: HandOver) -> None:
        self._slot = slot
        self._until = clock.now() + seconds
        self._hand_over = hand_over
        self._owner = uuid4()
        self._faults = Faults()
        self._lines = {name: Line(name) for name in ("claim", "settle", "pulse", "outbox", "seal", "project")}
        self._woken = asyncio.Event()
        self._ending: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self._settler = Settler(self._lines["settle"], self._faults, returned=self._woken.set)
        self._pulse = Pulse(self._lines["pulse"], slot=slot, owner=self._owner, wake=self._woken.set)
        self._marks: Marks | None = None
        self._overlooked: Marks | None = None  # the reading that saw a newcomer behind all that claims bring
        self._marks_until = 0.0
        self._hungry = False  # the last claim left something behind
        self._suspects_at = 0.0
        self._more_suspects = False  # the last claim that asked for one got one
        self._suspect_seconds = 0.0  # what it took
        self._claim_at = 0.0
        self._brought_at = 0.0  # when a claim last began that brought something
        self._pace = PACE_SECONDS
        self._passed_over: set[UUID] = set()  # busy at the last claim, so its rows were not looked at
        self._end_by = self._until

    async def run(self) -> Ending:
        try:
            if not await self._take_slot():
                return Ending.TAKEN
            policy = Policy(tuple(settings.DESTINATION_ALLOW), ipv6=settings.DESTINATION_IPV6)
            async with Sender(policy, connections=settings.DRAIN_CONCURRENCY) as sender:
                return await self._drain(sender)
        finally:
            for line in self._lines.values():
                await line.close()

    async def _take_slot(self) -> bool:
        return await self._lines["pulse"].run(partial(slots.take, slot=self._slot, owner=self._owner))

    async def _drain(self, sender: Sender) -> Ending:
        self._sending = Sending(
            sender=sender, settler=self._settler, line=self._lines["claim"], faults=self._faults
        )
        self._flights = Flights(
            rows=settings.DRAIN_CONCURRENCY,
            size=settings.DRAIN_BYTES,
            per_destination=settings.DRAIN_PER_DESTINATION,
            send=self._sending.send,
            give_back=self._give_back,
            landed=self._landed,
        )
        background = [
            asyncio.create_task(task) for task in (self._settler.run(), self._watch(), *self._keep_house())
        ]
        background.append(asyncio.create_task(self._forever("reading the marks", self._follow_marks)))
        pulse = asyncio.create_task(self._forever("renewing the slot", self._pulse.beat))
        claiming = asyncio.create_task(self._forever("claiming", self._claim_next))
        try:
            ending = await self._ending
            self._end_by = clock.now() + settings.SHUTDOWN_GRACE_SECONDS - LEAVING_SECONDS
            await self._end_claiming(claiming)
            if ending is Ending.OVER:
                await self._flights.idle(HAND_OVER_SECONDS)
                await self._leave_slot(pulse)
                await self._tell_successor()
            await self._land_all()
            await self._leave_slot(pulse)
            return ending
        finally:
            await _cancel(claiming, pulse, *background)

    def _keep_house(self) -> list[Coroutine[Any, Any, None]]:
        outbox = housekeeping.outbox(
            in_the_way=self._flights.in_the_way,
            found=self._woken.set,
            since=partial(self._since, frozenset()),
        )
        return [
            Housekeeping(self._lines["outbox"], self._faults, outbox).run(),
            Housekeeping(
                self._lines["seal"], self._faults, housekeeping.sealing(), every=housekeeping.SEAL_SECONDS
            ).run(),
            Housekeeping(self._lines["project"], self._faults, housekeeping.projecting()).run(),
        ]

    async def _forever(self, what: str, step: Callable[[], Awaitable[None]]) -> None:
        pause = Pause()
        while not (what == "claiming" and self._ending.done()):
            try:
                await step()
            except Exception as error:  # noqa: BLE001 - whatever fails, the drain goes on
                self._faults.note(what, error)
                await pause.wait()
            else:
                pause.reset()

    # --- claiming ---

    async def _claim_next(self) -> None:
        if not await self._worth_claiming():
            return
        self._woken.clear()
        began = clock.now()
        rows, size = self._flights.rows_free, self._flights.bytes_free
        self._passed_over = set(self._flights.busy())
        overlooked, self._overlooked = self._overlooked, None
        if overlooked:
            self._passed_over |= overlooked.under_way
        batch = await self._claim(rows, size, overlooked.newcomer if overlooked else None)
        self._claim_at = self._suspects_at if self._more_suspects else clock.now() + POLL_SECONDS
        taken = sum(len(claim.body) for claim in batch.claims)
        self._hungry = batch.more or 2 * taken > size or overlooked is not None
        if batch.claims:
            self._brought_at = began
            self._pace = PACE_SECONDS if len(batch.claims) <= FEW else LOAD_PACE_SECONDS
            await self._start(leases.of(batch, began=began))

    async def _worth_claiming(self) -> bool:
        """Wait until a claim makes sense: there is room, and reason to think that something is due."""
        self._hungry |= not self._room()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, self._claim_at - clock.now())):
                while not self._reason_to_claim():
                    self._woken.clear()
                    await self._woken.wait()
        if self._flights.under_way > settings.DRAIN_CONCURRENCY // 8:
            await asyncio.sleep(BREATH_SECONDS)
        if not self._hungry and (pause := self._brought_at + self._pace - clock.now()) > 0:
            await asyncio.sleep(pause)
        if not self._room():
            self._claim_at = clock.now() + LOOK_SECONDS
            return False
        return not self._ending.done()

    def _room(self) -> bool:
        unsettled = self._settler.waiting > MOST_UNSETTLED
        return self._flights.rows_free > 0 and self._flights.bytes_free > 0 and not unsettled

    def _reason_to_claim(self) -> bool:
        if self._ending.done():
            return True
        return self._half_is_free() if self._hungry else self._woken.is_set()

    def _half_is_free(self) -> bool:
        rows, size = settings.DRAIN_CONCURRENCY, settings.DRAIN_BYTES
        return 2 * self._flights.rows_free >= rows and 2 * self._flights.bytes_free >= size

    async def _claim(self, rows: int, size: int, newcomer: datetime | None) -> Batch:
        suspects = clock.now() >= self._suspects_at
        batch = await self._lines["claim"].run(
            partial(
                claims.claim,
                rows=rows,
                size=size,
                busy=list(self._passed_over),
                since=newcomer or self._since(self._passed_over),
                suspects=suspects,
            )
        )
        nothing_else_waits = not (batch.claims or batch.more or newcomer)
        if suspects:
            self._more_suspects = any(map(_is_suspect, batch.claims))
            self._suspects_at = clock.now() + POLL_SECONDS
        elif nothing_else_waits and self._more_suspects and self._suspect_was_quick():
            self._suspects_at = min(self._suspects_at, clock.now())
        return batch

    async def _follow_marks(self) -> None:
        """Beside the claims and not between them: what is waiting to be claimed waits for no reading."""
        before = self._marks
        marks = await self._find_marks(under_way=self._flights.destinations())
        until = clock.now() + min(max(POLL_SECONDS, MARKS_SHARE * marks.seconds), MARKS_SECONDS)
        self._marks, self._marks_until = marks, until + MARKS_GRACE_SECONDS
        if before and marks.oldest_free < before.oldest_free:
            self._woken.set()  # there is what the last claims did not see
        if self._hungry and marks.newcomer:
            self._overlooked = marks  # a quick destination's pile may fill every claim until its end
        step = MARKS_STEP_SECONDS
        while (left := until - clock.now()) > 0:
            read_at = clock.now()
            await asyncio.sleep(min(left, step))
            if self._brought_at > read_at:  # what was claimed is dead where it was
                self._marks = await self._find_marks(after=self._marks)
                step = max(MARKS_STEP_SECONDS, MARKS_SHARE * self._marks.seconds)

    async def _find_marks(
        self, *, under_way: Collection[UUID] | None = None, after: Marks | None = None
    ) -> Marks:
        return await self._lines["outbox"].run(
            partial(claims.find_marks, busy=self._flights.busy(), under_way=under_way, after=after)
        )

    def _since(self, passed_over: AbstractSet[UUID]) -> datetime | None:
        """None while no reading succeeds: old marks would hide all the while what committed late."""
        if self._marks is None or clock.now() > self._marks_until:
            return None
        return self._marks.since(passed_over)

    def _suspect_was_quick(self) -> bool:
        return self._suspect_seconds < QUICK_SUSPECT_SECONDS

    async def _start(self, batch: Sequence[Lease]) -> None:
        destinations = {lease.claim.destination_id for lease in batch}
        try:
            if new := self._sending.unknown(destinations):
                self._sending.know(await routes.read(self._lines["claim"], new, self._faults), new)
        except BaseException:
            for lease in batch:
                self._settler.release(lease)
            raise
        if _is_suspect(batch[0].claim):
            began = clock.now()
            await self._start_alone(batch[0])
            # Most of the time is the others', also when each suspect takes its whole deadline.
            self._suspect_seconds = clock.now() - began
            self._suspects_at = clock.now() + max(BREATH_SECONDS, SUSPECTS_SHARE * self._suspect_seconds)
            self._woken.set()
            return
        for lease in batch:
            self._flights.admit(lease)

    async def _start_alone(self, lease: Lease) -> None:
        """Workers ended twice while they had it. Should it be the reason, then nothing else is hit."""
        self._flights.give_back_late(everything=True)
        try:
            await self._flights.idle()
            await self._settler.idle(lease.left())
        except asyncio.CancelledError:
            self._settler.release(lease)
            raise
        if self._ending.done():
            self._settler.release(lease)
            return
        self._flights.admit(lease)
        await self._flights.idle()
        await self._settler.idle(lease.left())

    def _give_back(self, lease: Lease) -> None:
        self._passed_over.add(lease.claim.destination_id)
        if self._sending.is_paused(lease.claim.destination_id):
            self._settler.release(lease, held=True)  # or every claim would bring them again
        else:
            self._settler.give_back(lease)

    def _landed(self) -> None:
        gone_on = {one for one in self._passed_over if not self._flights.is_busy(one)}
        self._passed_over -= gone_on
        if gone_on or (self._hungry and self._half_is_free()):
            self._woken.set()

    # --- ending ---

    async def _watch(self) -> None:
        while True:
            self._flights.give_back_late()
            if not self._ending.done() and (ending := self._reason_to_end()):
                self._ending.set_result(ending)
                self._woken.set()
            await asyncio.sleep(LOOK_SECONDS)

    def _reason_to_end(self) -> Ending | None:
        if stopping.requested():
            return Ending.TOLD
        if self._pulse.lost:
            return Ending.LOST
        return Ending.OVER if clock.now() >= self._until else None

    async def _end_claiming(self, claiming: asyncio.Task[None]) -> None:
        # A claim under way brings rows that must be given back: let it end, unless the database is stuck.
        await asyncio.wait([claiming], timeout=SETTLING_SECONDS)
        await _cancel(claiming)
        self._flights.give_back_late(everything=True)

    async def _land_all(self) -> None:
        """What does not land within the grace is left to lapse, and then recorded as unknown."""
        if not await self._flights.idle(max(0.5, self._end_by - SETTLING_SECONDS - clock.now())):
            logger.warning("%d sends did not end within the grace", await self._flights.abandon())
        if not await self._settler.idle(max(0.5, self._end_by - clock.now())):
            logger.warning("%d outcomes could not be written in time", self._settler.waiting)
        await self._sending.deactivated()

    async def _leave_slot(self, pulse: asyncio.Task[None]) -> None:
        if pulse.done():
            return
        await _cancel(pulse)
        try:
            async with asyncio.timeout(SETTLING_SECONDS):
                await self._lines["pulse"].run(partial(slots.release, slot=self._slot, owner=self._owner))
        except Exception as error:  # noqa: BLE001 - its lease ends by itself
            self._faults.note("releasing the slot", error)

    async def _tell_successor(self) -> None:
        try:
            await asyncio.to_thread(self._hand_over)
        except Exception as error:  # noqa: BLE001 - the command looks for empty slots as well
            self._faults.note("handing the slot over", error)


def _is_suspect(claim: Claim) -> bool:
    return claim.lapses >= SUSPECT_LAPSES


async def _cancel(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
