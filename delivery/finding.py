"""Which rows of an account's log are the next that fit? `pusher.find_logs` has an index for each question."""

from collections.abc import Collection
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from delivery.models import DeliveryLog

BUDGET = 1_000  # rows that are read in the hope for a page before another way is tried: about a millisecond


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What to look for; None is no condition, and all others must hold. The ends of spans belong to them.

    `event`: the client's id. `prefix` and `searched` are one condition: the client's id begins so, or the
    destination is one of these.
    """

    delivery: UUID | None = None
    event: str | None = None
    destination: UUID | None = None
    status: str | None = None
    received_from: datetime | None = None
    received_to: datetime | None = None
    processed_from: datetime | None = None
    processed_to: datetime | None = None
    prefix: str | None = None
    searched: Collection[UUID] | None = None


EVERYTHING = Wanted()


def find(
    account_id: UUID,
    wanted: Wanted = EVERYTHING,
    *,
    most: int,
    descending: bool = True,
    after: tuple[datetime, UUID] | None = None,
) -> list[DeliveryLog]:
    """Up to so many rows, by moment of receipt and then by id.

    `after`: `received_at` and `delivery_id` of the row that these come after, in the direction of reading.
    """
    values: dict[str, Any] = {name: getattr(wanted, name) for name in _CONDITIONS}
    values["searched"] = list(wanted.searched or ())
    after_at, after_id = after or (None, None)
    values |= {
        "account": account_id,
        "most": most,
        "descending": descending,
        "after_at": after_at,
        "after_id": after_id,
        "budget": BUDGET,
    }
    return list(DeliveryLog.objects.raw(_FIND, values))


_CONDITIONS = [field.name for field in fields(Wanted)]
_FIND = """
SELECT *
  FROM pusher.find_logs(
           p_account => %(account)s, p_most => %(most)s, p_descending => %(descending)s,
           p_after_at => %(after_at)s, p_after_id => %(after_id)s,
           p_delivery => %(delivery)s, p_event => %(event)s,
           p_destination => %(destination)s, p_status => %(status)s,
           p_received_from => %(received_from)s, p_received_to => %(received_to)s,
           p_processed_from => %(processed_from)s, p_processed_to => %(processed_to)s,
           p_prefix => %(prefix)s, p_searched => %(searched)s::uuid[],
           p_budget => %(budget)s)
"""
