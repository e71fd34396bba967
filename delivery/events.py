"""What do the events of a delivery's stream tell?"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from eventstore.events import RecordedEvent


class Type(StrEnum):
    RECEIVED = "event.received"  # with its deliveries: [[delivery, destination], ...]
    ATTEMPTED = "delivery.attempted"  # failed, and will be tried again
    SUCCEEDED = "delivery.succeeded"
    EXHAUSTED = "delivery.exhausted"  # the last attempt failed, or there is no sense in one
    INTERRUPTED = "delivery.interrupted"  # nobody knows what became of the attempt
    CANCELLED = "delivery.cancelled"  # account or destination gone or inactive while it waited
    REQUESTED = "delivery.requested"  # to be sent again


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt, on record. `reason`: as in `delivery.outcome.Reason`, or "interrupted"."""

    number: int
    recorded_at: datetime
    reason: str
    response_status: int | None
    duration_us: int | None
    address: str | None
    detail: str
    next_attempt_at: datetime | None


def attempt(event: RecordedEvent) -> Attempt | None:
    """The attempt that this event of a delivery's stream records; None: it records none."""
    data = event.data
    if "attempt" not in data:
        return None
    due = data.get("next_attempt_at")
    return Attempt(
        number=data["attempt"],
        recorded_at=event.recorded_at,
        reason=data.get("reason", "interrupted"),
        response_status=data.get("status"),
        duration_us=data.get("duration_us"),
        address=data.get("address"),
        detail=data.get("detail", ""),
        next_attempt_at=datetime.fromisoformat(due) if due else None,
    )
