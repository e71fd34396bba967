"""How many events are accepted in a second, by connections, size and number of destinations?

One request is one event; what arrives while a commit is under way shares the next one inside the product. No
worker runs meanwhile. Afterwards the workers deliver all of it, and each acknowledged event must have been
seen. The floor is the same server without the product in it (bench.bare), by turns with it, so that both meet
the same noise of the machine.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from bench import bare, ledger, load
from bench.deployment import Account, Deployment
from bench.load import Load
from bench.processes import Watch
from bench.receiver import Receiver, Sighting
from bench.run import Figure, Run
from bench.run import number as rounded

NAME = "accepts"
MODES = {"quick", "standard", "long"}

WARM_UP_SECONDS = 1
FLOOR_SECONDS = 2
SECONDS = 2  # what is accepted must be delivered, and that takes longer
PATIENCE_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Case:
    connections: int
    kilobytes: int = 1
    destinations: int = 1

    @property
    def key(self) -> str:
        return f"accepts.{self.connections}.{self.kilobytes}KB.{self.destinations}"

    @property
    def label(self) -> str:
        return (
            f"accepts/s, {_several(self.connections, 'connection')}, {self.kilobytes} KB, "
            f"{_several(self.destinations, 'destination')}"
        )


QUICK = (Case(64), Case(256))
STANDARD = (Case(1), Case(16), *QUICK, Case(64, kilobytes=10), Case(64, destinations=3))


@dataclass(frozen=True, slots=True)
class Round:
    """One run of the product, just after one of the bare server."""

    load: Load
    floor: float
    cpu: dict[str, float]
    memory: dict[str, float]


@dataclass(frozen=True, slots=True)
class Measured:
    case: Case
    loads: Sequence[Load]  # with the one that warmed up: it was acknowledged, too
    rounds: Sequence[Round]

    def check(self, sightings: Sequence[Sighting]) -> None:
        """Raises Lost and the like when an answer was wrong."""
        ledger.check(
            [one for done in self.loads for one in done.acknowledged],
            [one for one in sightings if one.path.startswith(f"/{self.case.key}/")],
            destinations=self.case.destinations,
            unanswered=sum(done.unanswered for done in self.loads),
        )

    def figure(self) -> Figure:
        """The round in the middle, whole; the floor is the bare server's median."""
        middle = sorted(self.rounds, key=lambda each: each.load.rate)[(len(self.rounds) - 1) // 2]
        return Figure(
            key=self.case.key,
            label=self.case.label,
            value=middle.load.rate,
            unit="1/s",
            floor=statistics.median(each.floor for each in self.rounds),
            floor_label="the bare server",
            percentiles=ledger.percentiles(middle.load.latencies_ms),
            cpu=middle.cpu,
            memory={kind: max(each.memory[kind] for each in self.rounds) for kind in middle.memory},
            more={"lowest": min(each.load.rate for each in self.rounds)}
            | {"highest": max(each.load.rate for each in self.rounds)},
        )


def measure(run: Run) -> None:
    with Receiver() as receiver, Deployment(run) as deployment:
        deployment.start_web()
        (web,) = deployment.kinds()["web"]
        with bare.server(web, deployment.environment) as floor_url:
            measured = [
                _measure(run, case, deployment, receiver, floor_url)
                for case in run.pick(quick=QUICK, standard=STANDARD)
            ]
        deployment.start_worker()
        deployment.wait_drained(timeout=PATIENCE_SECONDS)
        sightings = receiver.sightings()
        for one in measured:
            one.check(sightings)
            run.record(one.figure())


def _measure(run: Run, case: Case, deployment: Deployment, receiver: Receiver, floor_url: str) -> Measured:
    paths = [f"{receiver.url}/{case.key}/{number}" for number in range(case.destinations)]
    account = deployment.account(destinations=paths)
    _post(floor_url, account, case, name="floor", seconds=WARM_UP_SECONDS)
    loads = [_post(deployment.url, account, case, name="warm", seconds=WARM_UP_SECONDS)]
    rounds = []
    for number in range(run.pick(quick=2, standard=3)):
        floor = _post(floor_url, account, case, name="floor", seconds=FLOOR_SECONDS)
        with Watch(deployment) as watch:
            done = _post(deployment.url, account, case, name=str(number), seconds=SECONDS)
        loads.append(done)
        rounds.append(Round(done, floor.rate, watch.per_event(done.requests), watch.memory))
    run.say(f"  {case.label}: {', '.join(rounded(each.load.rate) for each in rounds)}; not yet delivered")
    return Measured(case, loads, rounds)


def _post(url: str, account: Account, case: Case, *, name: str, seconds: int) -> Load:
    return load.wrk(
        url,
        token=account.token,
        connections=case.connections,
        seconds=seconds,
        body_bytes=case.kilobytes << 10,
        prefix=f"{case.key}-{name}",
    )


def _several(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
