"""How is one fault tried? Load, fault, heal, drain with nobody's help, and then the judges."""

import contextlib
import dataclasses
import random
import signal
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.faults import client
from tests.faults.client import Load, Post
from tests.faults.deployment import Account, Deployment, wait_for
from tests.faults.judgement import Judgement, judge
from tests.faults.receiver import Control

CHECK_SECONDS = 240


@dataclass(frozen=True)
class Fault:
    """`play` injects and heals. `proxied`: it needs the proxy before PostgreSQL."""

    name: str
    title: str
    play: Callable[["Trial"], None]
    proxied: bool = False
    alone: bool = False  # what it leaves behind must not be judged with what others do
    rate: float = 200.0
    may_end: bool = False  # deliveries may end on record without a success


@dataclass
class Result:
    """One line of the report."""

    fault: str
    title: str
    seed: str
    kills: int = 0
    drain_seconds: float = 0.0
    seconds: float = 0.0
    judgement: Judgement = field(default_factory=Judgement)
    invariants: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return not self.wrong

    @property
    def is_judged(self) -> bool:
        """Ledger, sightings and store were held against each other: what it counts is known."""
        return bool(self.invariants)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, kept: dict[str, Any]) -> "Result":
        return cls(**kept | {"judgement": Judgement(**kept["judgement"])})


class Trial:
    """What a fault works with: the deployment, an account whose events come in, the receiver, and chance."""

    def __init__(
        self, fault: Fault, deployment: Deployment, receiver: Control, *, seed: int, events: int
    ) -> None:
        self.fault = fault
        self.deployment = deployment
        self.receiver = receiver
        self.seed = f"{seed}:{fault.name}"
        self.rng = random.Random(self.seed)
        self.judged = False
        self.began_at = time.time()
        self.events = events
        self.result = Result(fault.name, fault.title, self.seed)
        self.account: Account = deployment.account(fault.name)
        for method in ("POST", "PUT"):
            self.add_destination(self.account, f"/{fault.name}/{method.lower()}", method=method)
        self.ledger = deployment.folder / f"ledger-{fault.name}.jsonl"
        self.load = self.make_load(self.account, client.posts(fault.name, events, self.rng))

    def add_destination(self, account: Account, path: str, **fields: Any) -> None:
        made = self.deployment.destination(account, self.receiver.url, path, **fields)
        self.receiver.know(self.receiver.url + path, *made.secrets)

    def make_load(
        self,
        account: Account,
        posts: Iterable[Post],
        *,
        rate: float = 0,
        ledger: Path | None = None,
        connections: int = 16,
    ) -> Load:
        return Load(
            self.deployment.url,
            account=account.id,
            token=account.token,
            posts=posts,
            ledger=ledger or self.ledger,
            rate=rate or self.fault.rate,
            connections=connections,
        )

    # --- the whole ---

    def run(self) -> Result:
        began = time.monotonic()
        try:
            self.load.start()
            try:
                self.fault.play(self)
            except BaseException:
                self.load.stop()
                raise
            finally:
                self.receiver.behave("*")
                self.load.wait()
            if not self.judged:
                self.heal_and_judge()
        except Exception as error:  # noqa: BLE001 - a fault of the suite is a failed run, too
            self.wrong(f"{type(error).__name__}: {error}", traceback.format_exc())
        self.result.seconds = round(time.monotonic() - began, 1)
        return self.result

    def heal_and_judge(self) -> None:
        """What was wrong is over by now. Nobody helps: it drains by itself."""
        self.result.drain_seconds = round(self.deployment.until_drained(), 1)
        self.deployment.faults.append((self.began_at, time.time()))
        self.judge(self.deployment)

    def judge(self, deployment: Deployment, *, known_until: float | None = None) -> None:
        """`known_until`: what was acknowledged later (Unix seconds) may have gone with a lost server."""
        found = judge(
            deployment,
            self.account,
            self.ledger,
            self.receiver.sightings(),
            may_end=self.fault.may_end,
            known_until=known_until,
        )
        self.result.judgement = found
        if self.load.unanswered:
            self.wrong(f"{len(self.load.unanswered)} events never got an answer")
        self.wrong(*found.wrong)
        options = [] if known_until is None else ["--acknowledged-before", str(known_until)]
        self.result.invariants, violated = check_invariants(
            deployment, self.deployment, self.receiver.sightings_file, *options
        )
        self.wrong(*violated)

    def wrong(self, *what: str) -> None:
        self.result.wrong += what

    def note(self, text: str) -> None:
        self.result.notes.append(text)

    # --- what faults are made of ---

    def moments(self, count: int, *, first: float = 0.15, last: float = 0.85) -> Iterator[None]:
        """So many random moments while events come in."""
        for share in sorted(self.rng.uniform(first, last) for _ in range(count)):
            self.until_share(share)
            time.sleep(self.rng.uniform(0, 0.05))
            yield

    def until_share(self, share: float) -> None:
        wait_for(
            lambda: self.load.progress >= share or not self.load.running,
            f"{share:.0%} of the events to be answered",
            within=120,
            pause=0.01,
        )

    def kill(self, process: psutil.Process, number: signal.Signals = signal.SIGKILL) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)
        if number is signal.SIGKILL:
            self.result.kills += 1


def check_invariants(
    deployment: Deployment, told: Deployment, sightings: Path, *options: str
) -> tuple[dict[str, str], list[str]]:
    """The operators' command, over all that clients (of `told`) and receiver saw: verdicts, violations."""
    ledgers = [str(file) for file in sorted(told.folder.glob("ledger-*.jsonl"))]
    faults = [part for began, ended in told.faults for part in ("--fault", f"{began}/{ended}")]
    done = deployment.manage(
        *("check_invariants", "--ledger", *ledgers, "--sightings", str(sightings), *faults, *options),
        check=False,
        timeout=CHECK_SECONDS,
    )
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    verdicts = {line[:4].strip(): line[4:17].strip() for line in lines if line[0] == "I"}
    if done.returncode == 0:
        return verdicts, []
    return verdicts, [
        f"check_invariants: {line}" for line in lines if "violated" in line or line[0] == " "
    ] or [f"check_invariants ended with {done.returncode}: {done.stdout[-500:]} {done.stderr[-1500:]}"]
