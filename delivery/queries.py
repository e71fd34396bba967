"""What became of an account's deliveries?

The version of the log is read in the same statement as its rows, so a rebuild's switch is never seen half.
A deleted account's rows are hidden from the moment that the projection knows.
"""

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from django.db.models import Exists, QuerySet, Subquery

from delivery import events, standing
from delivery.models import DeliveryLog, Erased, Total
from delivery.projections import NAME, TOTALS
from eventstore import payloads, projector, read

MOST_EVENTS = 1000
"""Of a delivery's stream that are read: who asks for it again and again makes it as long as they like."""


class NoSuchDeliveryError(LookupError):
    """The account has no such delivery (or, in lists, the projection does not know it yet)."""


@dataclass(frozen=True, slots=True)
class Detail:
    """One delivery: how it stands, and its attempts in order (those of its last MOST_EVENTS events)."""

    log: DeliveryLog
    attempts: list[events.Attempt]


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """So many sealed events of a type; `attempt`: each tells of an attempt that ended for `reason`."""

    type: str
    reason: str
    attempt: bool
    number: int


def totals() -> list[Count]:
    """All that is sealed and counted, since the first block and of all accounts, deleted ones too.

    Events by type: the sum over a type. Attempts by outcome: the sum over a reason where `attempt` is true.
    Events that have no reason have an empty one.
    """
    found = Total.objects.filter(version=Subquery(projector.active(TOTALS)))
    return [Count(**row) for row in found.order_by("pk").values("type", "reason", "attempt", "number")]


def logs(account_id: UUID) -> QuerySet[DeliveryLog]:
    """The whole log of the account, newest first; for a page of it: `delivery.finding`."""
    active = Subquery(projector.active(NAME))
    hidden = Erased.objects.filter(version=active, account_id=account_id)
    rows = DeliveryLog.objects.filter(~Exists(hidden), version=active, account_id=account_id)
    return rows.order_by("-received_at", "-delivery_id")


def log(account_id: UUID, delivery_id: UUID) -> DeliveryLog:
    """Raises NoSuchDeliveryError."""
    found = logs(account_id).filter(delivery_id=delivery_id).first()
    if found is None:
        raise NoSuchDeliveryError(delivery_id)
    return found


def detail(account_id: UUID, delivery_id: UUID) -> Detail:
    """A delivery up to this moment: what its stream tells already counts, sealed and projected or not.

    Raises NoSuchDeliveryError.
    """
    try:
        found = log(account_id, delivery_id)
    except NoSuchDeliveryError:
        found = _begun(account_id, delivery_id)
    # Later than the row, so it has all that the row knows.
    stream = read.stream(account_id, delivery_id, last=MOST_EVENTS)
    attempts = [attempt for event in stream if (attempt := events.attempt(event))]
    return Detail(standing.follow(found, stream), attempts)


def _begun(account_id: UUID, delivery_id: UUID) -> DeliveryLog:
    received = read.received(account_id, delivery_id)
    if received is None:
        raise NoSuchDeliveryError(delivery_id)
    return standing.begun(received, delivery_id)


def received_data(account_id: UUID, event_id: UUID) -> bytes | None:
    """The bytes as received; None when they were erased. `event_id` is ours, not the client's."""
    return payloads.read(account_id, event_id)


def received_data_of(
    account_id: UUID, event_ids: Collection[UUID], *, at_most: int
) -> dict[UUID, bytes | None]:
    """The bytes of several events: None for those over `at_most` bytes; erased ones are left out."""
    return payloads.read_many(account_id, event_ids, at_most=at_most)
