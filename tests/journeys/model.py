"""What must the outbox and the history hold? The promises in a few lines, to hold the real ones against."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

from outbox.claims import Claim

ENDS = {"succeeded": "success", "exhausted": "failed", "cancelled": "failed"}
SUSPECT = 2  # lapses


class Fact(NamedTuple):
    """One event of a delivery's stream; `attempt`: the one whose outcome it tells."""

    type: str
    attempt: int | None


class Row(NamedTuple):
    """A delivery that waits or is under way."""

    attempt: int = 0  # begun
    base: int = 0
    fence: int = 0  # of the lease under way; 0: none
    lapses: int = 0


@dataclass
class Delivery:
    account: UUID
    destination: UUID
    story: list[Fact] = field(default_factory=list)
    row: Row | None = field(default_factory=Row)
    sent: set[int] = field(default_factory=set)  # attempts that the receiver saw

    @property
    def told(self) -> list[int]:
        return [fact.attempt for fact in self.story if fact.attempt is not None]

    @property
    def logged(self) -> tuple[str, int]:
        """Status and attempts, as the log must show them."""
        last = self.story[-1].type if self.story else "received"
        return ENDS.get(last, "pending"), max(self.told, default=0)


Told = Mapping[UUID, list[Fact]]


class Model:
    """What is committed. Each method says how a verb's answer changes that, or refuses the answer."""

    def __init__(self) -> None:
        self.deliveries: dict[UUID, Delivery] = {}
        self.client_ids: set[tuple[UUID, str]] = set()
        self.fences: set[int] = set()

    def rows(self) -> dict[UUID, tuple[Row, int]]:
        return {key: (one.row, len(one.story)) for key, one in self.deliveries.items() if one.row is not None}

    def stories(self) -> dict[UUID, list[Fact]]:
        return {key: one.story for key, one in self.deliveries.items() if one.story}

    def accepted(self, account: UUID, client_id: str, fan: Mapping[UUID, UUID]) -> None:
        """`fan`: destinations by delivery."""
        self.client_ids.add((account, client_id))
        for delivery, destination in fan.items():
            assert delivery not in self.deliveries
            self.deliveries[delivery] = Delivery(account, destination)

    def claimed(self, claims: Iterable[Claim], told: Told) -> None:
        """Each lease that lapsed: an interruption on record, then the next attempt or a suspect's wait."""
        for key, facts in told.items():
            row = self.waiting(key)
            assert row.fence, "an interruption of nothing"
            assert facts == [Fact("interrupted", row.attempt)]
            self.follow(key, facts, row._replace(fence=0, lapses=row.lapses + 1))
        for claim in claims:
            row = self.waiting(claim.delivery_id)
            assert row.fence == 0, "it is another's, or its interruption is not on record"
            assert claim.fence not in self.fences
            row = row._replace(attempt=row.attempt + 1, fence=claim.fence)
            assert Row(claim.attempt, claim.base, claim.fence, claim.lapses) == row
            self.follow(claim.delivery_id, [], row)
        self.fences |= {claim.fence for claim in claims}

    def is_held_by(self, claim: Claim) -> bool:
        row = self.deliveries[claim.delivery_id].row
        return row is not None and (row.fence, row.attempt) == (claim.fence, claim.attempt)

    def released(self, claim: Claim) -> None:
        row = self.waiting(claim.delivery_id)
        self.follow(claim.delivery_id, [], row._replace(attempt=row.attempt - 1, fence=0))

    def settled(self, claim: Claim, fact: Fact) -> None:
        row = self.waiting(claim.delivery_id)
        again = None if fact.type in ENDS else row._replace(fence=0, lapses=0)
        self.follow(claim.delivery_id, [fact], again)

    def purged(self, told: Told) -> None:
        for key, facts in told.items():
            row = self.waiting(key)
            lapsed = [Fact("interrupted", row.attempt)] if row.fence else []
            assert facts == [*lapsed, Fact("cancelled", None)]
            self.follow(key, facts, None)

    def requested(self, key: UUID) -> None:
        one = self.deliveries[key]
        assert one.row is None
        begun = max(one.told, default=0)
        self.follow(key, [Fact("requested", None)], Row(begun, begun))

    def waiting(self, key: UUID) -> Row:
        row = self.deliveries[key].row
        assert row is not None, "it is over"
        return row

    def follow(self, key: UUID, facts: list[Fact], row: Row | None) -> None:
        one = self.deliveries[key]
        one.story.extend(facts)
        one.row = row

    def check(self) -> None:
        """When nothing waits any more."""
        for one in self.deliveries.values():
            assert one.row is None
            assert one.story[-1].type in ENDS
            assert one.told == list(range(1, len(one.told) + 1)), "a gap, or an attempt told twice"
            assert one.sent <= set(one.told), "sent without a record"
            assert {fact.attempt for fact in one.story if fact.type == "succeeded"} <= one.sent
