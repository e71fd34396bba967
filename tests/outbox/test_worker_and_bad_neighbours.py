"""While some destinations misbehave in every way at once, the others get theirs as quickly as ever."""

import statistics
import subprocess
import sys

import pytest

from delivery.outcome import Reason
from tests.outbox.bad_neighbours import WAYS
from tests.outbox.workers import BASE, Alice, Worker

EVENTS = 150
PAUSE = 0.015
NOISE = 0.03  # seconds: what a busy machine does to so few
DEADLINE = 1.0  # of each destination


@pytest.fixture
def worker(database, tmp_path):
    with Worker(database, tmp_path / "worker.log") as running:
        yield running


def paced(worker, alice, receiver, prefix):
    """Seconds from the commit of an event to its sighting: half of them within, 99 % within."""
    receiver.forget()
    alice.posts(*(f"{prefix}-{n}" for n in range(EVENTS)), pause=PAUSE)
    seen = receiver.wait_for(EVENTS * 3, timeout=30)
    at = dict(
        worker.sql.execute(
            "SELECT data ->> 'event_id', extract(epoch FROM recorded_at)::float8 FROM event"
            " WHERE type = 'event.received'"
        ).fetchall()
    )
    assert {one.headers["cl-x-attempt"] for one in seen} == {"1"}
    delays = sorted(one.at - at[one.headers["cl-x-event-id"]] for one in seen)
    return statistics.median(delays), delays[int(len(delays) * 0.99)]


@pytest.mark.slow
def test_healthy_destinations_keep_their_pace_beside_bad_ones(worker, receiver):
    alice, mallory = Alice(), Alice()
    for number in range(3):
        alice.sends_to(receiver.url(f"/{number}"))
    worker.drains()
    paced(worker, alice, receiver, "warm")
    alone = paced(worker, alice, receiver, "alone")
    with subprocess.Popen(
        [sys.executable, "-m", "tests.outbox.bad_neighbours"],
        cwd=BASE,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as bad:
        port = int(bad.stdout.readline())
        for path in WAYS:
            mallory.sends_to(f"http://127.0.0.1:{port}{path}")
        mallory.posts(*(f"bad-{n}" for n in range(150)))
        beside = paced(worker, alice, receiver, "beside")
        seen, _ = bad.communicate()
    print(f"{alone} alone, {beside} beside {seen.strip()} bad sends")  # noqa: T201 - with -s
    assert beside[0] < max(3 * alone[0], NOISE)
    # Their first wave costs the processor something; but nobody waits for another's deadline.
    assert beside[1] < max(3 * alone[1], DEADLINE / 2)
    assert int(seen) > 5 * len(WAYS)
    reasons = {data["reason"] for _, data in worker.events("attempted", "exhausted")}
    assert {Reason.TIMEOUT, Reason.TOO_LARGE, Reason.RESET, Reason.PROTOCOL, Reason.SERVER_ERROR} <= reasons
