"""The faults of the network between our programs and PostgreSQL, by a proxy."""

import time

from tests.faults.deployment import wait_for
from tests.faults.trial import Fault, Trial


def reset_accept(trial: Trial) -> None:
    """The connection is reset when the server has the batch: it commits, and nobody hears of it."""
    proxy = trial.deployment.proxy
    for _ in trial.moments(3):
        before = proxy.cut
        proxy.reset_on(f"{trial.fault.name}-".encode())
        wait_for(
            lambda before=before: proxy.cut > before or not trial.load.running, "an accept to be cut off"
        )
        trial.result.notes = [f"{proxy.cut} commits cut off"]


def reset_settle(trial: Trial) -> None:
    """The same for settles: done again, a second does nothing if the first did."""
    proxy = trial.deployment.proxy
    for _ in trial.moments(3):
        before = proxy.cut
        proxy.reset_on(b'"reason":"delivered"')
        wait_for(lambda before=before: proxy.cut > before, "a settle to be cut off")


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
