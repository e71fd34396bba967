"""How long does an event wait when there is nothing else to do? From its 202 to its destination.

The product with its defaults; one event at a time from a plain client, with pauses, so that everybody sleeps
when it comes. A sighting before the 202 arrived here counts as it is. The floor is taken in the pauses: one
round trip to the receiver, and one durable commit of a row as large as an event.
"""

import http.client
import json
import random
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import psycopg

from bench import ledger
from bench.deployment import Deployment
from bench.load import ACCEPTED, PATH, Acknowledged
from bench.processes import Watch
from bench.receiver import Receiver
from bench.run import Figure, Run, Wrong

NAME = "pickup"
MODES = {"quick", "standard", "long"}

BODY = json.dumps({"filler": 1010 * "x"}).encode()
PAUSE_SECONDS = (0.05, 0.10)  # twice for each event
WARM_UP = 10
SEED = 4
TIMEOUT_SECONDS = 10.0


def measure(run: Run) -> None:
    events = run.pick(quick=60, standard=200)
    with Receiver() as receiver, Deployment(run) as deployment:
        deployment.start_web()
        account = deployment.account(destinations=[f"{receiver.url}/pickup"])
        deployment.start_worker()
        web, nearest = _connection(deployment.url), _connection(receiver.url)
        with deployment.sql() as connection, Watch(deployment, receiver=receiver.process.pid) as watch:
            acknowledged, round_trips, commits = _take_turns(
                WARM_UP + events,
                post=lambda number: _post(web, account.token, f"pickup-{number}"),
                reach=lambda: _reach(nearest),
                commit=_commit_to(connection),
            )
        deployment.wait_drained(timeout=TIMEOUT_SECONDS)
        sightings = [one for one in receiver.sightings() if one.path == "/pickup"]
        ledger.check(acknowledged, sightings)
        measured = acknowledged[WARM_UP:]
        latencies = ledger.latencies_ms({one.event_id: one.answered_ns for one in measured}, sightings)
        from_sending = ledger.latencies_ms({one.event_id: one.sent_ns for one in measured}, sightings)
        answers = sorted((one.answered_ns - one.sent_ns) / 1e6 for one in measured)
        floors = [ledger.percentile(sorted(times[WARM_UP:]), 0.5) for times in (round_trips, commits)]
        took = ledger.percentiles(latencies)
        run.record(
            Figure(
                key="pickup",
                label="from the 202 to the receiver when idle",
                value=took["p50"],
                unit="ms",
                floor=sum(floors),
                floor_label="a round trip to the receiver and a durable commit",
                percentiles=took,
                cpu=watch.per_event(len(acknowledged)),
                memory=watch.memory,
                note=f"{events} events, one at a time; CPU with all polling of {len(acknowledged)} pauses",
                more={
                    **{f"from_sending_{name}": ms for name, ms in ledger.percentiles(from_sending).items()},
                    **{f"answer_{name}": ms for name, ms in ledger.percentiles(answers).items()},
                    "round_trip_p50": floors[0],
                    "commit_p50": floors[1],
                },
            )
        )


def _take_turns(
    events: int, *, post: Callable[[int], Acknowledged], reach: Callable[[], None], commit: Callable[[], None]
) -> tuple[list[Acknowledged], list[float], list[float]]:
    """An event, a pause, the two halves of the floor (in ms), a pause."""
    pauses = random.Random(SEED)  # noqa: S311 - pauses of no pattern, the same in each run
    acknowledged, round_trips, commits = [], [], []
    for number in range(events):
        acknowledged.append(post(number))
        time.sleep(pauses.uniform(*PAUSE_SECONDS))
        round_trips.append(_took(reach))
        commits.append(_took(commit))
        time.sleep(pauses.uniform(*PAUSE_SECONDS))
    return acknowledged, round_trips, commits


def _took(work: Callable[[], None]) -> float:
    began = time.monotonic_ns()
    work()
    return (time.monotonic_ns() - began) / 1e6


def _connection(url: str) -> http.client.HTTPConnection:
    """Kept alive; it connects by itself."""
    parts = urlsplit(url)
    return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_SECONDS)


def _post(web: http.client.HTTPConnection, token: str, event_id: str) -> Acknowledged:
    headers = {"Content-Type": "application/json", "CL-X-TOKEN": token, "CL-X-EVENT-ID": event_id}
    sent = time.monotonic_ns()
    web.request("POST", PATH, BODY, headers)
    response = web.getresponse()
    answered = time.monotonic_ns()
    told = response.read()
    if response.status != ACCEPTED:
        raise Wrong(f"{event_id} was answered {response.status}: {told.decode(errors='replace')}")
    return Acknowledged(event_id, sent, answered)


def _reach(receiver: http.client.HTTPConnection) -> None:
    receiver.request("POST", "/floor", BODY, {"Content-Type": "application/json"})
    receiver.getresponse().read()


def _commit_to(connection: psycopg.Connection[Any]) -> Callable[[], None]:
    """What writes one more row of an event's size, on disk when it returns."""
    connection.execute("CREATE TABLE benchmark_row (id bigserial PRIMARY KEY, body bytea)")

    def write() -> None:
        connection.execute("INSERT INTO benchmark_row (body) VALUES (%s)", [BODY], prepare=True)

    return write
