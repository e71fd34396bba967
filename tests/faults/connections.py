"""The faults of the network between our programs and PostgreSQL, by a proxy."""

import time

from tests.faults.deployment import wait_for
from tests.faults.trial import Fault, Trial


def reset_accept(trial: Trial) -> None:
    """The connection is reset when the server has the batch: it commits, and nobody hears of it."""
    _reset_on(trial, f"{trial.fault.name}-".encode())


def reset_settle(trial: Trial) -> None:
    """The same for settles: done again, a second does nothing if the first did."""
    _reset_on(trial, b"succeeded")


def _reset_on(trial: Trial, parameter: bytes) -> None:
    """Statements are prepared by then: what passes is their parameters."""
    proxy = trial.deployment.proxy
    before = proxy.cut
    for number, _ in enumerate(trial.moments(3, last=0.7), start=1):
        proxy.reset_on(parameter)
        wait_for(lambda number=number: proxy.cut == before + number, "a statement to be cut off", pause=0.005)
    trial.note(f"{proxy.cut - before} commits cut off")


def reset_all(trial: Trial) -> None:
    """Every connection to PostgreSQL at once."""
    for _ in trial.moments(3):
        trial.deployment.proxy.reset_all()


def black_hole(trial: Trial) -> None:
    """Nothing passes for longer than a lease, nothing is closed; then it flows again."""
    for _ in trial.moments(1, last=0.5):
        trial.deployment.proxy.black_hole(True)
        time.sleep(6)
        trial.deployment.proxy.black_hole(False)


def latency(trial: Trial) -> None:
    """50 ms each way, for a while."""
    for _ in trial.moments(1, last=0.4):
        trial.deployment.proxy.latency = 0.05
        trial.until_share(0.8)
        trial.deployment.proxy.latency = 0


def slow_bytes(trial: Trial) -> None:
    """20,000 bytes a second each way on every connection, for a while."""
    for _ in trial.moments(1, last=0.3):
        trial.deployment.proxy.slow = 20_000
        time.sleep(8)
        trial.deployment.proxy.slow = 0


CONNECTIONS = (
    Fault("reset-accept", "connection reset in the middle of accept's commit", reset_accept, proxied=True),
    Fault("reset-settle", "connection reset in the middle of settle's commit", reset_settle, proxied=True),
    Fault("reset-all", "all connections to PostgreSQL reset", reset_all, proxied=True),
    Fault("black-hole", "PostgreSQL behind a black hole beyond the lease", black_hole, proxied=True),
    Fault("latency", "100 ms to PostgreSQL and back", latency, proxied=True),
    Fault("slow-bytes", "PostgreSQL byte by byte", slow_bytes, proxied=True),
)
