"""How fast does a full outbox empty, to a receiver that is never the limit, by one drain and by two?

Every row is accepted (bench.filling) while no worker runs, so sealing and projecting what was received is
part of the work, as it is in the long run. The floor is the HTTP client alone, at the same concurrency.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from bench import client, filling, ledger, steady
from bench.deployment import Account, Deployment
from bench.filling import Filled
from bench.processes import Watch
from bench.receiver import Receiver
from bench.run import Figure, Run

NAME = "deliveries"
MODES = {"quick", "standard", "long"}

DESTINATIONS = 20
NEARLY = 0.9  # of the rows: until then the work is whole, later the last ones trickle
PATIENCE_SECONDS = 120.0
KINDS = ("worker", "postgres", "receiver")


@dataclass(frozen=True, slots=True)
class Drained:
    """Deliveries per second, CPU microseconds per delivery and peak MB by kind of process."""

    rate: float
    cpu: dict[str, float]
    memory: dict[str, float]


def measure(run: Run) -> None:
    with Receiver() as receiver, Deployment(run) as deployment:
        deployment.start_web()
        accounts = [
            deployment.account(destinations=[f"{receiver.url}/{number}"]) for number in range(DESTINATIONS)
        ]
        for drains in (1, 2):
            _measure(run, deployment, receiver, accounts, drains)
        _measure_single(run, deployment, receiver, accounts[:1])


def _measure(
    run: Run, deployment: Deployment, receiver: Receiver, accounts: Sequence[Account], drains: int
) -> None:
    bare, drained = [], []
    for turn in range(run.pick(quick=1, standard=2)):
        bare.append(client.measure(receiver, seconds=run.pick(quick=2.0, standard=3.0), processes=drains))
        filled = filling.fill(
            deployment, accounts, events=run.pick(quick=12_000, standard=30_000), prefix=f"{drains}-{turn}"
        )
        drained.append(
            drain(deployment, receiver, filled, begin=partial(deployment.start_worker, slots=drains))
        )
        deployment.stop_worker()
    without_httpx = client.measure(receiver, seconds=2.0, processes=drains, wire="aiohttp")
    run.record(
        Figure(
            key=f"deliveries.{drains}",
            label=f"deliveries/s from a full outbox, {_drains(drains)}, {DESTINATIONS} destinations, 1 KB",
            value=statistics.median(one.rate for one in drained),
            unit="1/s",
            floor=statistics.median(one.rate for one in bare),
            floor_label=f"the bare client, {drains * client.CONCURRENCY} at once",
            cpu=middle([one.cpu for one in drained])
            | {"bare client": statistics.median(one.cpu for one in bare)},
            memory=highest([one.memory for one in drained]),
            more={"aiohttp_alone": without_httpx.rate},
        )
    )


def _measure_single(
    run: Run, deployment: Deployment, receiver: Receiver, accounts: Sequence[Account]
) -> None:
    events = run.pick(quick=4_000, standard=12_000)
    filled = filling.fill(deployment, accounts, events=events, prefix="single")
    drained = drain(deployment, receiver, filled, begin=partial(deployment.start_worker, slots=2))
    deployment.stop_worker()
    run.record(
        Figure(
            key="deliveries.single",
            label="deliveries/s from a full outbox, 2 drains, a single destination, 1 KB",
            value=drained.rate,
            unit="1/s",
            cpu=drained.cpu,
            memory=drained.memory,
            note="DRAIN_PER_DESTINATION bounds what is under way",
        )
    )


def drain(
    deployment: Deployment, receiver: Receiver, filled: Filled, *, begin: Callable[[], None]
) -> Drained:
    """Let it begin, and watch until all is delivered. Raises unless every row was seen, and none twice."""
    receiver.reset()
    begin()
    with Watch(deployment, receiver=receiver.process.pid) as watch:
        before = receiver.count()
        receiver.wait_for(int(filled.rows * NEARLY), timeout=PATIENCE_SECONDS)
        watched = receiver.count() - before
    deployment.wait_drained(timeout=PATIENCE_SECONDS)
    sightings = receiver.sightings()
    ledger.check(filled.acknowledged, sightings, destinations=filled.destinations)
    return Drained(
        rate=steady.rate([sighting.at_ns for sighting in sightings]),
        cpu={kind: us for kind, us in watch.per_event(watched).items() if kind in KINDS},
        memory={kind: mb for kind, mb in watch.memory.items() if kind in KINDS},
    )


def middle(several: Sequence[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(one[key] for one in several) for key in several[0]}


def highest(several: Sequence[dict[str, float]]) -> dict[str, float]:
    return {key: max(one[key] for one in several) for key in several[0]}


def _drains(number: int) -> str:
    return "1 drain" if number == 1 else f"{number} drains"
