"""What does the database tell of itself? All numbers in one short transaction, for `/metrics`."""

import logging
from dataclasses import dataclass

from django.db import connection, transaction

from delivery import queries as deliveries
from eventstore import lag
from outbox import queries as outbox

STATEMENT_MS = 1_000

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class State:
    depth: outbox.Depth
    unsealed: lag.Unsealed
    behind: list[lag.Behind]
    totals: list[deliveries.Count]


def state() -> State | None:
    """None: the database is away, or too slow."""
    try:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SELECT set_config('statement_timeout', %s, true)", [str(STATEMENT_MS)])
            return State(outbox.depth(), lag.unsealed(), lag.projections(), deliveries.totals())
    except Exception as error:  # noqa: BLE001 - whatever it is, the process has its own numbers to tell
        log.warning("the database tells no metrics: %s", error)
        return None
