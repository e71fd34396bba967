"""`python -m tests.faults [once|long]`: what `make faults` and `make faults-long` run."""

import argparse
import random
import signal
import sys
import time
from collections.abc import Iterator

from tests.faults import long, report
from tests.faults.catalogue import FAULTS
from tests.faults.stage import stage
from tests.faults.trial import Fault, Result, Trial

TOGETHER = 6  # faults that share a deployment, which is new then


def main() -> int:
    asked = _arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended in order: nobody is left behind
    seed = asked.seed if asked.seed is not None else random.SystemRandom().randrange(10**6)
    print(f"seed {seed}", flush=True)
    began = time.monotonic()
    if asked.part == "long":
        trying = long.run(asked.kills, seed=seed, per_deployment=asked.per_deployment, rate=asked.rate)
    else:
        trying = _once(_chosen(asked.only), seed=seed, events=asked.events)
    results: list[Result] = []
    try:
        for result in trying:
            results.append(result)
            report.tell(result)
    finally:  # also of a run that was ended, or could not go on
        if results and (asked.add or not asked.only):
            report.write(asked.part, results, seed=seed, seconds=time.monotonic() - began, add=asked.add)
    failed = [result for result in results if not result.passed]
    print(f"\n{len(results) - len(failed)} passed, {len(failed)} failed, in {time.monotonic() - began:.0f} s")
    return 1 if failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("part", nargs="?", choices=("once", "long"), default="once")
    parser.add_argument("--seed", type=int, help="repeats a run; otherwise one is drawn")
    parser.add_argument("--only", nargs="+", metavar="FAULT", help=", ".join(fault.name for fault in FAULTS))
    parser.add_argument("--add", action="store_true", help="to the report's earlier runs of this part")
    parser.add_argument("--events", type=int, default=1000, help="events of each fault")
    parser.add_argument("--kills", type=int, default=300, help="of the long part, over all its deployments")
    parser.add_argument("--per-deployment", type=int, default=60, help="kills before its one drain")
    parser.add_argument("--rate", type=float, default=100, help="events a second of the long part")
    return parser.parse_args()


def _chosen(names: list[str] | None) -> list[Fault]:
    unknown = set(names or ()) - {fault.name for fault in FAULTS}
    if unknown:
        raise SystemExit(f"no such fault: {', '.join(sorted(unknown))}")
    return [fault for fault in FAULTS if not names or fault.name in names]


def _once(faults: list[Fault], *, seed: int, events: int) -> Iterator[Result]:
    for group in _together(faults):
        with stage(proxied=group[0].proxied) as (deployment, receiver, results):
            for fault in group:
                result = Trial(fault, deployment, receiver, seed=seed, events=events).run()
                results.append(result)
                yield result
                if not result.passed:
                    break  # what follows would be judged by the same store
        yield from _rest(group, len(results), seed=seed, events=events)


def _rest(group: list[Fault], done: int, *, seed: int, events: int) -> Iterator[Result]:
    """After a failure the others of its group get a deployment of their own."""
    if done < len(group):
        yield from _once(group[done:], seed=seed, events=events)


def _together(faults: list[Fault]) -> Iterator[list[Fault]]:
    yield from ([fault] for fault in faults if fault.alone)
    for proxied in (False, True):
        alike = [fault for fault in faults if fault.proxied is proxied and not fault.alone]
        for start in range(0, len(alike), TOGETHER):
            yield alike[start : start + TOGETHER]


if __name__ == "__main__":
    sys.exit(main())
