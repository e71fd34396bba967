"""Many kills at random moments, many in each deployment, and one drain at the end of each."""

import itertools
import random
import time
from collections.abc import Callable, Iterator

from tests.faults import kills
from tests.faults.stage import stage
from tests.faults.trial import Fault, Result, Trial

PAUSE_SECONDS = 1.5  # on average, between two kills
SECONDS_PER_KILL = 8  # no run is slower: so many events are at hand


def run(number: int, *, seed: int, per_deployment: int, rate: float) -> Iterator[Result]:
    for turn in itertools.count(1):
        count = min(number, per_deployment)
        if count <= 0:
            return
        number -= count
        print(f"{count} kills on a new deployment", flush=True)
        fault = Fault(f"kills-{turn}", f"{count} kills at random moments", _kills(count), rate=rate)
        with stage(proxied=False) as (deployment, receiver, kept):
            events = round(rate * SECONDS_PER_KILL * count)
            kept.append(Trial(fault, deployment, receiver, seed=seed, events=events).run())
        yield kept[0]


def _kills(count: int) -> Callable[[Trial], None]:
    def play(trial: Trial) -> None:
        kinds: dict[str, int] = dict.fromkeys(kills.RANDOM, 0)
        rng = random.Random(trial.seed)
        while trial.result.kills < count:
            time.sleep(rng.expovariate(1 / PAUSE_SECONDS))
            if kind := kills.random_kill(trial, rng):
                kinds[kind] += 1
        trial.load.stop()
        trial.note(", ".join(f"{number} {kind}" for kind, number in kinds.items() if number))

    return play
