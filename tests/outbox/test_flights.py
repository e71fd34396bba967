"""A destination's share of the room: more with each send that comes back, and none for saying nothing."""

import asyncio
from uuid import uuid4

import pytest

from outbox.claims import Claim
from outbox.worker import clock
from outbox.worker.flights import FIRST, Flights
from outbox.worker.leases import Lease

ROWS = 128


def lease(destination) -> Lease:
    claim = Claim(uuid4(), uuid4(), uuid4(), destination, 1, 0, 1, 0, 0, "event", b"{}")
    return Lease(claim, clock.now(), clock.now() + 60, 0.0)


def flights_that_land(came_back: bool = True) -> tuple[Flights, asyncio.Event]:
    """Flights whose sends last until the event is set."""
    landing = asyncio.Event()

    async def send(_lease: Lease) -> bool:
        await landing.wait()
        return came_back

    flights = Flights(
        rows=ROWS, size=1 << 20, per_destination=64, send=send, give_back=lambda _: None, landed=int
    )
    return flights, landing


def waves(came_back: bool, *, number: int) -> tuple[int, int]:
    """Sends under way, and rows that nobody else can have, after so many waves of claims and landings."""

    async def main() -> tuple[int, int]:
        destination = uuid4()
        flights, landing = flights_that_land(came_back)
        for _ in range(number):
            for _ in range(ROWS):
                flights.admit(lease(destination))
            landing.set()
            await flights.idle()
            landing.clear()
        for _ in range(ROWS):
            flights.admit(lease(destination))
        found = flights.under_way, ROWS - flights.rows_free
        await flights.abandon()
        return found

    return asyncio.run(main())


@pytest.mark.parametrize("number", [0, 1, 5])
def test_a_destination_that_says_nothing_takes_a_few_rows_however_often_it_is_tried(number) -> None:
    assert waves(False, number=number) == (FIRST, FIRST)


def test_one_that_comes_back_gets_more_each_time_up_to_its_cap() -> None:
    assert waves(True, number=0) == (FIRST, FIRST)
    one, two = waves(True, number=1), waves(True, number=2)
    assert FIRST < one[0] < two[0]
    assert waves(True, number=6)[0] == 64


def test_a_busy_destination_is_in_the_way_only_while_there_are_others() -> None:
    async def main() -> None:
        flights, landing = flights_that_land()
        busy, other = uuid4(), uuid4()
        for _ in range(FIRST):
            flights.admit(lease(busy))
        assert (flights.busy(), flights.in_the_way()) == ([busy], [])
        flights.admit(lease(other))
        assert (flights.busy(), flights.in_the_way()) == ([busy], [busy])
        for _ in range(FIRST):
            flights.admit(lease(other))
        assert flights.busy() == flights.in_the_way() == [busy, other]  # each is in the other's
        landing.set()
        await flights.idle()
        landing.clear()
        for _ in range(8 * FIRST):
            flights.admit(lease(busy))
        assert (flights.busy(), flights.in_the_way()) == ([busy], [busy])  # the other was there a moment ago
        await flights.abandon()

    asyncio.run(main())


def test_one_that_has_most_of_the_room_is_in_the_way_of_others_however_quick_it_is() -> None:
    async def main() -> None:
        flights, landing = flights_that_land()
        quick, other = uuid4(), uuid4()
        landing.set()
        for _ in range(20 * ROWS):
            flights.admit(lease(quick))
            await flights.idle()
        landing.clear()
        for _ in range(3 * ROWS // 4):
            flights.admit(lease(quick))
        assert (flights.busy(), flights.in_the_way()) == ([], [])
        flights.admit(lease(other))
        assert (flights.busy(), flights.in_the_way()) == ([], [quick])
        await flights.abandon()

    asyncio.run(main())
