"""Does the feeder post each event until it is taken, as slowly as it is told?"""

import asyncio
import itertools

import httpx
import orjson
import pytest

from demo.feeder import Accepted, Event, Refused, Waiting, feed
from tests.receivers import Answer, Receiver

pytestmark = pytest.mark.slow

PATH = "/server/incoming_data"
TAKEN = Answer(
    202, orjson.dumps({"event": {"deliveries": 3, "received_timestamp": "2026-01-01T00:00:00.000000Z"}})
)
EVENTS = [Event(f"run-{number}", "push", b'{"n": %d}' % number) for number in range(1, 4)]


@pytest.fixture
def receiver():
    with Receiver() as running:
        yield running


def fed(receiver: Receiver, events=EVENTS, *, per_second: float = 1000) -> tuple[list, list[Event]]:
    async def run() -> tuple[list, list[Event]]:
        posted: list[Event] = []
        async with httpx.AsyncClient(base_url=receiver.url(""), trust_env=False) as client:
            told = feed(client, events, token="t", per_second=per_second, posting=posted.append)
            return [happened async for happened in told], posted

    return asyncio.run(run())


def test_each_event_is_posted_once_with_its_id_and_bytes(receiver: Receiver) -> None:
    receiver.default = TAKEN

    happened, posted = fed(receiver)

    assert happened == [Accepted(event, 3, "2026-01-01T00:00:00.000000Z") for event in EVENTS]
    assert posted == EVENTS
    assert [(one.headers["cl-x-event-id"], one.body) for one in receiver.seen] == [
        (event.event_id, event.body) for event in EVENTS
    ]
    assert {one.headers["cl-x-token"] for one in receiver.seen} == {"t"}
    assert {one.headers["content-type"] for one in receiver.seen} == {"application/json"}


@pytest.mark.parametrize("status", [429, 503])
def test_told_to_wait_it_waits_and_posts_the_same_again(receiver: Receiver, status: int) -> None:
    receiver.on(PATH, Answer(status, headers={"Retry-After": "1"}), TAKEN)

    happened, _ = fed(receiver, EVENTS[:2])

    assert happened[0] == Waiting(EVENTS[0], str(status), 1)
    assert [type(one) for one in happened[1:]] == [Accepted, Accepted]
    first, again, _ = receiver.seen
    assert (again.body, again.headers["cl-x-event-id"]) == (first.body, first.headers["cl-x-event-id"])
    assert again.at - first.at >= 1


@pytest.mark.parametrize("retry_after", [None, "soon", "Wed, 21 Oct 2026 07:28:00 GMT", "-5"])
def test_without_a_number_to_wait_it_waits_a_second(receiver: Receiver, retry_after: str | None) -> None:
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    receiver.on(PATH, Answer(429, headers=headers), TAKEN)

    happened, _ = fed(receiver, EVENTS[:1])

    assert happened[0] == Waiting(EVENTS[0], "429", 1)


def test_a_lost_connection_is_tried_again_with_the_same_id(receiver: Receiver) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    receiver.on(PATH, hang_up, TAKEN)

    happened, _ = fed(receiver, EVENTS[:1])

    assert [type(one) for one in happened] == [Waiting, Accepted]


@pytest.mark.parametrize("status", [400, 401, 409, 500])
def test_what_is_refused_for_good_is_not_posted_again(receiver: Receiver, status: int) -> None:
    receiver.on(PATH, Answer(status, b"why"), TAKEN)

    happened, _ = fed(receiver)

    assert happened[0] == Refused(EVENTS[0], f"{status} why")
    assert [type(one) for one in happened[1:]] == [Accepted, Accepted]
    assert len(receiver.seen) == 3


def test_it_keeps_to_the_limit(receiver: Receiver) -> None:
    receiver.on(PATH, TAKEN, Answer(200, TAKEN.body, delay=0.5), TAKEN)
    events = [Event(f"run-{number}", "push", b"{}") for number in range(7)]

    fed(receiver, events, per_second=5)

    moments = [one.at for one in receiver.seen]
    assert len(moments) == 7
    assert all(later - earlier > 0.2 for earlier, later in itertools.pairwise(moments))
    assert moments[2] - moments[1] > 0.7  # when in that half second it was counted is not known
