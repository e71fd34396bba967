"""What does the demo's receiver answer and tell? With requests that the product's own composer made."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from uuid import uuid4

import httpx
import orjson
import pytest

from delivery.message import Message, Target, compose
from demo import feeder, keep
from demo.receiver import Arrival, Door, Mood, receiving
from demo.signature import Verdict

KEY = b"k" * 24
SECRET = "whsec_" + "a2tr" * 8
DOORS = {
    "post": Door("/post", SECRET),
    "get": Door("/get", SECRET),
    "moody": Door("/moody", SECRET, moody=True),
}
LARGEST = max(feeder.events("run"), key=lambda event: len(event.body))

IDS = [event.event_id for event in feeder.events("run")]

Send = Callable[..., Awaitable[int]]


def with_receiver(tmp_path, scene: Callable[[Send, list[Arrival]], Awaitable[None]]) -> None:
    async def run() -> None:
        port, arrivals = keep.receiver_port(tmp_path), []
        async with receiving(port, DOORS, arrivals.append), httpx.AsyncClient(trust_env=False) as client:

            async def send(
                path: str, *, method: str = "POST", event_id: str = "e-1", attempt: int = 1, key: bytes = KEY,
                body: bytes = b'{"a": 1}', without: str = "",
            ) -> int:  # fmt: skip
                target = Target(f"http://{keep.HOST}:{port}{path}", method, (), (key,), 15)
                made = compose(Message(uuid4(), event_id, attempt, body), target, now=int(time.time()))
                headers = [pair for pair in made.headers if pair[0] != without]
                answer = await client.request(made.method, made.url, headers=headers, content=made.body)
                return answer.status_code

            await scene(send, arrivals)

    asyncio.run(run())


def test_the_inbox_takes_everything_and_shows_what_came_last(tmp_path) -> None:
    async def run() -> None:
        port = keep.receiver_port(tmp_path)
        async with (
            receiving(port, {}, lambda _: None),
            httpx.AsyncClient(trust_env=False, base_url=f"http://{keep.HOST}:{port}") as client,
        ):
            assert (await client.get("/seen/mine")).status_code == 404
            for number in range(2):
                answer = await client.put(
                    f"/inbox/mine?n={number}", headers={"X-A": "b"}, content=b'{"a": 1}'
                )
                assert answer.status_code == 204
            seen = (await client.get("/seen/mine")).json()
            assert (seen["method"], seen["target"], seen["body"]) == ("PUT", "/inbox/mine?n=1", '{"a": 1}')
            assert seen["headers"]["x-a"] == "b"
            for number in range(100):
                await client.post(f"/inbox/other-{number}")
            assert (await client.get("/seen/mine")).status_code == 404
            assert (await client.get("/seen/other-99")).status_code == 200

    asyncio.run(run())


@pytest.mark.parametrize(("path", "method"), [("/post", "POST"), ("/get", "GET"), ("/get?own=1", "GET")])
def test_a_signed_delivery_is_taken_and_told(tmp_path, path: str, method: str) -> None:
    async def scene(send: Send, arrivals: list[Arrival]) -> None:
        assert await send(path, method=method, event_id="mine", attempt=3) == 204
        (arrival,) = arrivals
        assert (arrival.door, arrival.method) == (path[1:].partition("?")[0], method)
        assert (arrival.event_id, arrival.attempt, arrival.verdict) == ("mine", 3, Verdict.VALID)

    with_receiver(tmp_path, scene)


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_the_largest_event_fits_also_into_a_url(tmp_path, method: str) -> None:
    async def scene(send: Send, arrivals: list[Arrival]) -> None:
        assert await send("/get", method=method, body=LARGEST.body) == 204
        assert arrivals[0].verdict is Verdict.VALID

    with_receiver(tmp_path, scene)


def test_a_wrong_signature_is_refused_and_told(tmp_path) -> None:
    async def scene(send: Send, arrivals: list[Arrival]) -> None:
        assert await send("/post", key=b"x" * 24) == 401
        assert await send("/post", without="webhook-signature") == 401
        assert [arrival.verdict for arrival in arrivals] == [Verdict.WRONG, Verdict.MISSING]

    with_receiver(tmp_path, scene)


def test_the_moody_door_refuses_the_first_tries_of_each_event(tmp_path) -> None:
    once = next(event_id for event_id in IDS if not Mood().refuses(event_id, 2))
    twice = next(event_id for event_id in IDS if Mood().refuses(event_id, 2))

    async def scene(send: Send, arrivals: list[Arrival]) -> None:
        for event_id, answers in ((once, [503, 204, 204]), (twice, [503, 503, 204])):
            got = [await send("/moody", event_id=event_id, attempt=attempt) for attempt in (1, 2, 3)]
            assert got == answers
        assert [arrival.status for arrival in arrivals] == [503, 204, 204, 503, 503, 204]

    with_receiver(tmp_path, scene)


def test_it_never_refuses_long_enough_to_be_given_a_rest() -> None:
    """20 failures in a row, or over 80 % of a minute's, would do that; first tries alone are the worst."""
    mood = Mood()
    refused = [mood.refuses(event_id, 1) for event_id in IDS]

    assert refused[:8] == [True, True, True, False, True, True, True, False]
    assert sum(refused) / len(refused) < 0.8


def test_every_tenth_event_is_refused_twice() -> None:
    assert 15 < sum(Mood().refuses(event_id, 2) for event_id in IDS) < 60
    assert not any(Mood().refuses(event_id, 3) for event_id in IDS)


def test_paths_that_are_no_doors_are_not_found(tmp_path) -> None:
    async def scene(send: Send, arrivals: list[Arrival]) -> None:
        assert await send("/other") == 404
        assert arrivals == []

    with_receiver(tmp_path, scene)


def test_all_payloads_are_objects_with_ids_of_their_own() -> None:
    events = list(feeder.events("run"))

    assert len(events) == len({event.event_id for event in events}) == 326
    assert all(isinstance(orjson.loads(event.body), dict) and event.kind for event in events)
