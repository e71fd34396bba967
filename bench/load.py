"""How are events posted, fast or evenly? By wrk: written in C, so that the load is not what is measured.

Its script (lua/events.lua) gives each event an id of its own and writes down which were acknowledged, and
when. Latencies are made of that ledger and not taken from wrk, which corrects its own for a schedule that a
closed loop doesn't have. wrk ends in the middle of its last requests: each connection leaves at most one
behind whose outcome nobody knows.
"""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from bench.run import Wrong

SCRIPT = Path(__file__).parent / "lua" / "events.lua"
PATH = "/server/incoming_data"
ANSWER_SECONDS = 30
GRACE_SECONDS = 30
ACCEPTED = 202


class Acknowledged(NamedTuple):
    """An event that got its 2xx. Times are CLOCK_MONOTONIC, in nanoseconds."""

    event_id: str
    sent_ns: int  # at a fixed rate: when it was meant to be sent, if it went later
    answered_ns: int


@dataclass(frozen=True)
class Load:
    """What one run of wrk did: answers that were read, by status, and the acknowledged events in order."""

    seconds: float
    requests: int
    statuses: Mapping[int, int]
    unanswered: int
    acknowledged: list[Acknowledged]

    @property
    def rate(self) -> float:
        return self.requests / self.seconds

    @cached_property
    def latencies_ms(self) -> list[float]:
        """From sending to the answer, sorted."""
        return sorted((one.answered_ns - one.sent_ns) / 1e6 for one in self.acknowledged)


def wrk(
    url: str,
    *,
    token: str | Sequence[str],
    connections: int,
    seconds: int,
    body_bytes: int,
    prefix: str,
    rate: float | None = None,
) -> Load:
    """Post events of `body_bytes` to the server at `url` for so long, `rate` a second or as fast as it goes.

    Ids are `prefix` and a number; of several tokens each has its turn. Raises Wrong when any answer is not
    202, or when one is missing.
    """
    with tempfile.NamedTemporaryFile(prefix="bench-ledger-") as ledger:
        told = _run(
            ["-t", "1", "-c", str(connections), "-d", str(seconds), "--timeout", str(ANSWER_SECONDS)],
            url=url,
            seconds=seconds,
            LOAD_TOKENS=token if isinstance(token, str) else " ".join(token),
            LOAD_PREFIX=prefix,
            LOAD_LEDGER=ledger.name,
            LOAD_BODY_BYTES=str(body_bytes),
            LOAD_RATE="" if rate is None else str(rate),
        )
        load = Load(
            seconds=told["seconds"],
            requests=told["requests"],
            statuses={int(status): count for status, count in told["statuses"].items()},
            unanswered=told["unanswered"],
            acknowledged=_read(Path(ledger.name)),
        )
    _check(load, told["errors"], connections)
    return load


def _run(options: list[str], *, url: str, seconds: int, **environment: str) -> dict[str, Any]:
    program = shutil.which("wrk")
    if program is None:
        raise Wrong("wrk is missing: apt-get install wrk")
    done = subprocess.run(
        [program, *options, "-s", str(SCRIPT), url + PATH],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=seconds + GRACE_SECONDS,
        check=False,
    )
    _, found, told = done.stdout.rpartition("\n{")
    if done.returncode or done.stderr or not found:
        raise Wrong(f"wrk ended with status {done.returncode}: {done.stderr or done.stdout}")
    answer: dict[str, Any] = json.loads("{" + told)
    return answer


def _read(ledger: Path) -> list[Acknowledged]:
    with ledger.open() as lines:
        return [
            Acknowledged(event_id, int(sent), int(answered))
            for event_id, sent, answered in (line.split() for line in lines)
        ]


def _check(load: Load, errors: Mapping[str, int], connections: int) -> None:
    """Nothing is passed over: a request that failed fast would count for a fast one."""
    if wrong := {name: count for name, count in errors.items() if count}:
        raise Wrong(f"wrk met errors: {wrong}")
    if others := {status: count for status, count in load.statuses.items() if status != ACCEPTED}:
        raise Wrong(f"not all answers were {ACCEPTED}: {others}")
    if not load.requests:
        raise Wrong("nothing was answered")
    if load.unanswered > connections:
        raise Wrong(f"{load.unanswered} requests on {connections} connections were never answered")
    if len(load.acknowledged) != load.requests:
        raise Wrong(f"{load.requests} answers were read, {len(load.acknowledged)} stand in the ledger")
