"""Short ways to let deliveries happen, as the outbox records them, for tests of the log."""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from tests.eventstore import stores


@dataclass
class Delivery:
    """One event and one destination; each method appends what the outbox would."""

    connection: stores.Connection
    account: UUID = stores.ACCOUNT
    destination: UUID = field(default_factory=uuid4)
    id: UUID = field(default_factory=uuid4)
    event: UUID = field(default_factory=uuid4)
    client_event_id: str = "client's id"

    def received(self, *others: "Delivery") -> "Delivery":
        pairs = [[str(one.id), str(one.destination)] for one in (self, *others)]
        self._append(self.event, "event.received", event_id=self.client_event_id, size=10, deliveries=pairs)
        for other in others:
            other.event = self.event
        return self

    def attempted(self, number: int, reason: str = "server_error", status: int | None = 500) -> "Delivery":
        return self._attempt(
            "attempted", number, reason, status, next_attempt_at="2026-11-21T01:02:03.000004Z"
        )

    def succeeded(self, number: int) -> "Delivery":
        return self._attempt("succeeded", number, "delivered", 204)

    def exhausted(
        self, number: int | None, reason: str = "client_error", status: int | None = 400
    ) -> "Delivery":
        if number is None:
            return self._append(self.id, "delivery.exhausted", reason=reason, **self._names())
        return self._attempt("exhausted", number, reason, status)

    def interrupted(self, number: int) -> "Delivery":
        return self._append(
            self.id, "delivery.interrupted", attempt=number, reason="interrupted", **self._names()
        )

    def cancelled(self, reason: str = "destination_deleted") -> "Delivery":
        return self._append(self.id, "delivery.cancelled", reason=reason, **self._names())

    def requested(self) -> "Delivery":
        return self._append(self.id, "delivery.requested", actor=str(uuid4()), **self._names())

    def _attempt(self, kind: str, number: int, reason: str, status: int | None, **more: Any) -> "Delivery":
        outcome = {
            "reason": reason,
            "status": status,
            "duration_us": 1234,
            "address": "192.0.2.1",
            "detail": "d",
        }
        return self._append(self.id, f"delivery.{kind}", attempt=number, **self._names(), **outcome, **more)

    def _names(self) -> dict[str, str]:
        return {"event": str(self.event), "destination": str(self.destination)}

    def _append(self, stream: UUID, kind: str, **data: Any) -> "Delivery":
        stores.append_as(self.connection, self.account, stream, kind, **data)
        return self


def delete_account(connection: stores.Connection, account: UUID) -> None:
    stores.append_as(connection, account, account, "account.deleted", actor=str(uuid4()))


def project(connection: stores.Connection) -> None:
    """Seal all, and bring the log to the last block."""
    stores.seal_all(connection)
    while stores.project(connection):
        pass
