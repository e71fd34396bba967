"""While some destinations misbehave in every way at once, the others get theirs as quickly as ever."""

import contextlib
import statistics
import subprocess
import sys
from operator import itemgetter

import pytest

from delivery.outcome import Reason
from tests.outbox.bad_neighbours import WAYS
from tests.outbox.workers import BASE, Alice, Worker

EVENTS = 150
PAUSE = 0.015
BURST = 150  # events for all the neighbours, at once
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


@contextlib.contextmanager
def neighbours(*options):
    """Somebody else's destinations, and a burst for them, accepted just now."""
    mallory = Alice()
    with subprocess.Popen(
        [sys.executable, "-m", "tests.outbox.bad_neighbours", *options],
        cwd=BASE,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        port = int(process.stdout.readline())
        for path in WAYS:
            mallory.sends_to(f"http://127.0.0.1:{port}{path}")
        mallory.posts(*(f"burst-{n}" for n in range(BURST)))
        yield process


@pytest.mark.slow
def test_healthy_destinations_keep_their_pace_beside_bad_ones(worker, receiver):
    """Beside the same burst to neighbours that answer; once it is through, as without neighbours."""
    alice = Alice()
    for number in range(3):
        alice.sends_to(receiver.url(f"/{number}"))
    worker.drains()
    paced(worker, alice, receiver, "warm")
    alone = paced(worker, alice, receiver, "alone")
    with neighbours("--good") as neighbour:
        good = paced(worker, alice, receiver, "good")
        worker.delivers_all()
        assert int(neighbour.communicate()[0]) == BURST * len(WAYS)
    with neighbours() as neighbour:
        beside = paced(worker, alice, receiver, "beside")
        later = min((paced(worker, alice, receiver, f"later-{n}") for n in range(2)), key=itemgetter(1))
        seen = int(neighbour.communicate()[0])
    print(f"{alone} alone, {good} beside good, {beside} and {later} beside {seen} bad sends")  # noqa: T201 - with -s
    assert beside[1] < good[1]
    assert beside[1] < max(3 * alone[1], DEADLINE / 2)  # nobody waits for another's deadline
    assert beside[0] < max(3 * alone[0], NOISE)
    assert later[0] < max(3 * alone[0], NOISE)
    assert later[1] < max(3 * alone[1], NOISE)
    assert seen > 5 * len(WAYS)
    reasons = {data["reason"] for _, data in worker.events("attempted", "exhausted")}
    assert {Reason.TIMEOUT, Reason.TOO_LARGE, Reason.RESET, Reason.PROTOCOL, Reason.SERVER_ERROR} <= reasons
