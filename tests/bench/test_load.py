"""Does the load post what it says, at the rate it says, and find every wrong answer?"""

import asyncio
import json
import shutil
import time
from collections import Counter
from typing import Any

import pytest

from bench import load
from bench.run import Wrong
from tests.receivers import Answer, Receiver, receiver

__all__ = ["receiver"]
pytestmark = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")

ACCEPTED = '{"success":true,"message":"Data Received","event":{"id":"0","event_id":"%s","duplicate":false}}'


def accept(
    receiver: Receiver, *, stall: float = 0, head: dict[str, str] | None = None, **differing: Any
) -> None:
    """Answer as the product does: 202 and the event's id. The tenth request waits `stall` seconds."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen = receiver.seen
        body = ACCEPTED % differing.get("event_id", seen[-1].headers["cl-x-event-id"])
        if len(seen) == 10:
            await asyncio.sleep(stall)
        writer.write(Answer(differing.get("status", 202), body.encode(), head or {}).to_bytes())

    receiver.on(load.PATH, answer)


def post(receiver: Receiver, **options: Any) -> load.Load:
    usual = {"token": "t", "connections": 4, "seconds": 1, "rate": 50, "body_bytes": 1024, "prefix": "t"}
    return load.wrk(receiver.url(""), **usual | options)


@pytest.mark.slow
def test_every_event_is_another_one_and_its_answer_is_written_down(receiver: Receiver) -> None:
    accept(receiver)
    before = time.monotonic_ns()
    done = post(receiver, token=["first", "second"], body_bytes=1111)

    seen = receiver.seen
    assert 45 <= done.requests <= 50 * done.seconds + 1
    assert done.statuses == {202: done.requests}
    assert receiver.connections == 1 + 4  # wrk tries the address once; then they are kept
    assert [sighting.headers["cl-x-event-id"] for sighting in seen] == sorted(
        {sighting.headers["cl-x-event-id"] for sighting in seen}
    )
    assert {one.event_id for one in done.acknowledged} <= {one.headers["cl-x-event-id"] for one in seen}
    assert {len(sighting.body) for sighting in seen} == {1111}
    assert [json.loads(one.body)["id"] for one in seen] == [one.headers["cl-x-event-id"] for one in seen]
    tokens = Counter(sighting.headers["cl-x-token"] for sighting in seen)
    assert abs(tokens["first"] - tokens["second"]) <= 1
    assert all(before < one.sent_ns < one.answered_ns for one in done.acknowledged)


@pytest.mark.slow
@pytest.mark.parametrize("size", [600, 1024, 10_240])
def test_a_body_is_json_of_the_size_asked_for(receiver: Receiver, size: int) -> None:
    accept(receiver)
    post(receiver, body_bytes=size)
    assert {len(sighting.body) for sighting in receiver.seen} == {size}
    assert json.loads(receiver.seen[-1].body)["payload"]["commits"]


@pytest.mark.slow
def test_a_stall_counts_for_all_that_it_held_up(receiver: Receiver) -> None:
    accept(receiver, stall=0.4)
    done = post(receiver, connections=1, rate=100)
    assert sum(latency > 200 for latency in done.latencies_ms) >= 15  # and not one alone


@pytest.mark.slow
@pytest.mark.parametrize(
    ("differing", "complaint"),
    [
        ({"status": 429}, "429"),
        ({"status": 200}, "200"),  # a duplicate: an id was used before
        ({"event_id": "another"}, "strange"),
        ({"head": {"Connection": "close"}}, "closed"),
        ({"stall": 10, "status": 202}, None),  # only this one stays without an answer: nobody can know
    ],
)
def test_a_wrong_answer_is_no_answer(
    receiver: Receiver, differing: dict[str, Any], complaint: str | None
) -> None:
    accept(receiver, **differing)
    if complaint is None:
        assert post(receiver).unanswered == 1
        return
    with pytest.raises(Wrong, match=complaint):
        post(receiver)


@pytest.mark.slow
def test_a_server_that_never_answers_is_no_fast_one(receiver: Receiver) -> None:
    receiver.on(load.PATH, Answer(202, delay=30))
    with pytest.raises(Wrong, match="nothing was answered"):
        post(receiver)


@pytest.mark.slow
def test_a_body_that_is_too_small_says_so(receiver: Receiver) -> None:
    with pytest.raises(Wrong, match="a body has at least"):
        post(receiver, body_bytes=100)
