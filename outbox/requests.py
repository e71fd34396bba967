"""What may people ask for by hand? One delivery again, and a sample event for one destination.

Each is one transaction on Django's connection, under the account's lock: the account's deletion waits for it,
and then finds what waits and cancels it. What they ask for goes the way of every other delivery.
"""

import hashlib
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson
from django.db import connection, transaction

from accounts import events
from accounts.operations import access
from accounts.roles import Action
from delivery import queries
from eventstore.events import SCOPE
from eventstore.identifiers import uuid7
from outbox import wake
from outbox.intake import SALT_BYTES

if TYPE_CHECKING:
    from accounts.models import User
    from delivery.models import DeliveryLog

SAMPLE_PREFIX = "test-"

_REDELIVER = "SELECT pusher.redeliver(%s::smallint, %s, %s, %s)"
_SAMPLE = "SELECT * FROM pusher.sample(%s::smallint, %s, %s, %s, %s, %s, %s, %s)"


class DeliveryPending(Exception):
    """It is under way, or waits for its next attempt."""


class DestinationInactive(Exception):
    """The destination gets no events now; make it active first."""


class DestinationDeleted(Exception):
    """The delivery's destination is gone."""


class PayloadErased(Exception):
    """There is nothing left to send."""


_REFUSALS: dict[str, type[Exception]] = {
    "unknown": queries.NoSuchDeliveryError,
    "pending": DeliveryPending,
    "inactive": DestinationInactive,
    "deleted": DestinationDeleted,
    "erased": PayloadErased,
}


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample event on its way; `client_event_id` is what the receiver sees as the client's id."""

    delivery_id: UUID
    client_event_id: str
    destination_id: UUID
    received_at: datetime


@transaction.atomic
def redeliver(*, actor: "User", account_id: UUID, delivery_id: UUID) -> "DeliveryLog":
    """Send it again, on a fresh schedule; answers the log as it stands then: pending.

    Raises NotFound, NotAllowed, NoSuchDeliveryError, DeliveryPending, DestinationInactive, DestinationDeleted
    and PayloadErased.
    """
    access.lock_account(actor, account_id, Action.REDELIVER)
    (outcome,) = _call(_REDELIVER, [SCOPE, account_id, delivery_id, actor.pk])
    if outcome in _REFUSALS:
        raise _REFUSALS[outcome](delivery_id)
    wake.after_commit()
    return queries.detail(account_id, delivery_id).log


@transaction.atomic
def send_sample(*, actor: "User", account_id: UUID, destination_id: UUID) -> Sample:
    """An event to this destination alone; it waits when the destination is paused.

    Raises NotFound, NotAllowed and DestinationInactive.
    """
    access.lock_account(actor, account_id, Action.TEST_DESTINATION)
    destination = access.lock_destination(actor, account_id, destination_id, Action.TEST_DESTINATION)
    if not destination.active:
        raise DestinationInactive(destination_id)
    event_id = uuid7()
    client_event_id = f"{SAMPLE_PREFIX}{event_id}"
    body, salt = _sample_body(destination_id), os.urandom(SALT_BYTES)
    digest = hashlib.sha256(salt + body).digest()
    delivery_id, received_at = _call(
        _SAMPLE, [SCOPE, account_id, destination_id, event_id, client_event_id, body, salt, digest]
    )
    events.record(
        events.Type.DESTINATION_TESTED, account_id=account_id, stream_id=destination_id, actor=actor,
        destination=destination_id, event=event_id, delivery=delivery_id,
    )  # fmt: skip
    wake.after_commit()
    return Sample(delivery_id, client_event_id, destination_id, received_at)


def _sample_body(destination_id: UUID) -> bytes:
    """Flat and small: a GET carries the members in its URL."""
    return orjson.dumps(
        {
            "test": True,
            "message": "A test event of Data Pusher, sent on request.",
            "destination_id": destination_id,
            "sent_timestamp": datetime.now(UTC),
        },
        option=orjson.OPT_UTC_Z,
    )


def _call(statement: str, parameters: list[Any]) -> tuple[Any, ...]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        row: tuple[Any, ...] = cursor.fetchone()
    return row
