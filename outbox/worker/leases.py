"""What does a drain hold? A claim, and until when it may act on it."""

from collections.abc import Sequence
from typing import NamedTuple

from outbox.claims import Batch, Claim
from outbox.worker import clock


class Lease(NamedTuple):
    """A claim of ours. `began` is our clock before the claim was asked for, so `until` is never late."""

    claim: Claim
    began: float
    until: float
    claimed_at: float  # Unix seconds, by the database

    def left(self) -> float:
        return self.until - clock.now()

    def database_time(self) -> float:
        """Unix seconds now, whatever the clock of this machine says."""
        return self.claimed_at + (clock.now() - self.began)


def of(batch: Batch, *, began: float) -> Sequence[Lease]:
    until = began + batch.lease_seconds
    return [Lease(claim, began, until, batch.now) for claim in batch.claims]
