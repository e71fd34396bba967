"""What is under way, and what more may start? Bounds on rows, bytes and on each destination's share."""

import asyncio
import contextlib
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Coroutine
from typing import Any
from uuid import UUID

from outbox.worker import clock
from outbox.worker.leases import Lease

WAIT_SECONDS = 1.0  # longer, and another drain may as well have it
PACE_SECONDS = 1.0
FIRST = 4  # sends at once (and none that wait) to a destination that none came back from lately: maybe dead
CLAIMS_PER_PACE = 20  # what a destination does in that part of a second may wait for its turn when we claim

type Send = Callable[[Lease], Coroutine[Any, Any, bool]]


class Flights:
    """`send` runs per lease that starts, and says whether its destination did anything within the deadline;
    `give_back` takes what can't start soon; `landed` hears of room.
    """

    def __init__(
        self,
        *,
        rows: int,
        size: int,
        per_destination: int,
        send: Send,
        give_back: Callable[[Lease], None],
        landed: Callable[[], None],
    ) -> None:
        self._rows = rows
        self._size = size
        self._cap = per_destination
        self._send = send
        self._give_back = give_back
        self._landed = landed
        self._tasks: dict[asyncio.Task[bool], Lease] = {}
        self._bytes = 0
        self._by_destination: Counter[UUID] = Counter()
        self._queues: defaultdict[UUID, deque[Lease]] = defaultdict(deque)
        self._queued = 0
        self._paces = _Paces()
        self._ground = asyncio.Event()
        self._ground.set()

    @property
    def under_way(self) -> int:
        return len(self._tasks)

    @property
    def rows_free(self) -> int:
        return self._rows - len(self._tasks) - self._queued

    @property
    def bytes_free(self) -> int:
        return self._size - self._bytes

    def busy(self) -> list[UUID]:
        """Destinations whose rows a claim should pass over: the claim brings as many of one as it finds."""
        return [destination for destination in self._by_destination if self.is_busy(destination)]

    def destinations(self) -> list[UUID]:
        """All that are being sent to, the busy among them."""
        return list(self._by_destination)

    def in_the_way(self) -> list[UUID]:
        """Those that others could have to wait behind: the busy, and one that has most of the room, however
        quick it is. None while there is nobody else.
        """
        if len(self._paces.known | self._by_destination.keys()) == 1:
            return []
        return [one for one in self._by_destination if self.is_busy(one) or 2 * self._of(one) > self._rows]

    def is_busy(self, destination: UUID) -> bool:
        share, pace = self._share(destination), self._paces.of(destination)
        return self._of(destination) > share // 2 + pace // CLAIMS_PER_PACE

    def _of(self, destination: UUID) -> int:
        return self._by_destination[destination] + len(self._queues.get(destination, ()))

    def _share(self, destination: UUID) -> int:
        """How many at once: more with each that comes back; a few dead ones can't take all the room."""
        return min(self._cap, FIRST + self._paces.of(destination))

    def admit(self, lease: Lease) -> None:
        """Start it, or let it wait for its destination's turn, or give it back."""
        destination = lease.claim.destination_id
        share = self._share(destination)
        if self._by_destination[destination] < share:
            self._start(lease)
        elif len(self._queues.get(destination, ())) < self._paces.of(destination):
            self._queues[destination].append(lease)
            self._queued += 1
            self._bytes += len(lease.claim.body)
        else:
            self._give_back(lease)

    def give_back_late(self, *, everything: bool = False) -> None:
        """Give back what has waited for too long (or all that waits)."""
        limit = clock.now() - WAIT_SECONDS
        self._paces.roll()
        for destination in list(self._queues):
            queue = self._queues[destination]
            while queue and (everything or queue[0].began < limit):
                self._give_back(self._unqueue(destination))

    async def idle(self, within: float | None = None) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._ground.wait()
        return self._ground.is_set()

    async def abandon(self) -> int:
        """End what is still under way; its outcome is unknown, so its lease lapses and says so."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return len(tasks)

    def _start(self, lease: Lease) -> None:
        self._ground.clear()
        self._by_destination[lease.claim.destination_id] += 1
        self._bytes += len(lease.claim.body)
        task = asyncio.get_running_loop().create_task(self._send(lease))
        self._tasks[task] = lease
        task.add_done_callback(self._land)

    def _land(self, task: asyncio.Task[bool]) -> None:
        lease = self._tasks.pop(task)
        destination = lease.claim.destination_id
        self._bytes -= len(lease.claim.body)
        if not task.cancelled() and task.exception() is None and task.result():
            self._paces.count(destination)
        self._by_destination[destination] -= 1
        if not self._by_destination[destination]:
            del self._by_destination[destination]
        while destination in self._queues and self._by_destination[destination] < self._share(destination):
            self._start(self._unqueue(destination))
        if not self._tasks:
            self._ground.set()
        self._landed()

    def _unqueue(self, destination: UUID) -> Lease:
        queue = self._queues[destination]
        lease = queue.popleft()
        if not queue:
            del self._queues[destination]
        self._queued -= 1
        self._bytes -= len(lease.claim.body)
        return lease


class _Paces:
    """How many sends of each destination came back in a second, this one or the one before?

    Not those that ran into their deadline: a destination that says nothing would get more room with each.
    """

    def __init__(self) -> None:
        self._before: Counter[UUID] = Counter()
        self._now: Counter[UUID] = Counter()
        self._until = clock.now() + PACE_SECONDS

    @property
    def known(self) -> set[UUID]:
        return self._before.keys() | self._now.keys()

    def of(self, destination: UUID) -> int:
        return max(self._before[destination], self._now[destination])

    def count(self, destination: UUID) -> None:
        self._now[destination] += 1

    def roll(self) -> None:
        if clock.now() >= self._until:
            self._before, self._now = self._now, Counter()
            self._until = clock.now() + PACE_SECONDS
