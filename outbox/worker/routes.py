"""Where does a delivery go now? Read again and again: what changed a moment ago counts."""

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

import psycopg

from accounts import routes
from outbox.lines import Line
from outbox.worker import clock
from outbox.worker.faults import Faults

FRESH_SECONDS = 1.0  # no attempt starts over 2 s after its destination was deleted
NEW_SECONDS = 0.1  # a claim reads anew what is older


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read, and our clock just before; `unreadable` ones exist, but their secrets can't be had."""

    found: dict[UUID, routes.Route]
    unreadable: frozenset[UUID]
    at: float

    def is_fresh(self) -> bool:
        return clock.now() - self.at < FRESH_SECONDS

    def is_new(self) -> bool:
        return clock.now() - self.at < NEW_SECONDS


async def read(line: Line, destination_ids: Collection[UUID], faults: Faults) -> Reading:
    """Raises psycopg.Error. One destination that can't be read leaves the others readable."""
    at = clock.now()
    try:
        found = await line.run(lambda connection: routes.read(connection, destination_ids))
    except psycopg.Error:
        raise
    except Exception as error:  # noqa: BLE001 - a key that is gone, a row that was changed by hand
        faults.note("reading a destination", error)
        return await _read_apart(line, destination_ids, at)
    return Reading(found, frozenset(), at)


async def _read_apart(line: Line, destination_ids: Collection[UUID], at: float) -> Reading:
    found: dict[UUID, routes.Route] = {}
    unreadable: set[UUID] = set()
    for destination_id in destination_ids:
        try:
            found |= await line.run(lambda connection, one=destination_id: routes.read(connection, [one]))  # type: ignore[misc]  # mypy can't infer a lambda's defaults
        except psycopg.Error:
            raise
        except Exception:  # noqa: BLE001 - noted by the first reading
            unreadable.add(destination_id)
    return Reading(found, frozenset(unreadable), at)
