"""How does a delivery stand at this moment, by its own events? As its log will say once they are sealed.

The same fold as `pusher.project_delivery_log`, for one delivery: its last event says how it stands, its last
attempt when and how it was tried.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from delivery.events import Type
from delivery.models import DeliveryLog
from eventstore.events import RecordedEvent

_ENDS: dict[str, str] = {Type.SUCCEEDED: "success", Type.EXHAUSTED: "failed", Type.CANCELLED: "failed"}


def begun(received: RecordedEvent, delivery_id: UUID) -> DeliveryLog:
    """The log of a delivery when its event was accepted."""
    destinations = dict(received.data["deliveries"])
    return DeliveryLog(
        account_id=received.account_id,
        delivery_id=delivery_id,
        event_id=received.stream_id,
        client_event_id=received.data["event_id"],
        destination_id=UUID(destinations[str(delivery_id)]),
        received_at=received.recorded_at,
        status="pending",
        attempts=0,
        reason="",
    )


def follow(log: DeliveryLog, stream: Sequence[RecordedEvent]) -> DeliveryLog:
    """Bring the log (in memory) to the end of its delivery's stream."""
    if not stream:
        return log
    last = stream[-1]
    due = last.data.get("next_attempt_at")
    log.status = _ENDS.get(last.type, "pending")
    log.reason = "interrupted" if last.type == Type.INTERRUPTED else last.data.get("reason", "")
    log.next_attempt_at = datetime.fromisoformat(due) if due else None
    tried = next((event for event in reversed(stream) if "attempt" in event.data), None)
    if tried is not None:
        log.attempts = tried.data["attempt"]
        log.processed_at = max(tried.recorded_at, log.received_at)
        log.response_status = tried.data.get("status")
    return log
