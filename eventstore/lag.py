"""How far are sealing and projecting behind? Cheap however long the history is: only its end is read."""

from dataclasses import dataclass

from django.db import connection

from eventstore.events import SCOPE

CAP = 10_000

# As `pusher.members`, up to the cap: what began after the last block's snapshot, and what was in progress.
# The block of an earlier epoch says nothing of this one.
_UNSEALED = """
    WITH head AS (SELECT epoch FROM history WHERE scope = %(scope)s ORDER BY epoch DESC LIMIT 1),
         last AS (SELECT epoch, snapshot FROM block WHERE scope = %(scope)s ORDER BY number DESC LIMIT 1),
         since AS (SELECT head.epoch, coalesce(last.snapshot, '1:1:') AS snapshot
                     FROM head LEFT JOIN last ON last.epoch = head.epoch),
         fresh AS (
             (SELECT e.recorded_at FROM event e
               WHERE e.scope = %(scope)s AND e.epoch = (SELECT epoch FROM since)
                 AND e.xid >= (SELECT pg_snapshot_xmax(snapshot) FROM since)
               ORDER BY e.scope, e.epoch, e.xid, e.seq LIMIT %(cap)s)
             UNION ALL
             (SELECT e.recorded_at FROM event e
               WHERE e.scope = %(scope)s AND e.epoch = (SELECT epoch FROM since)
                 AND e.xid = ANY (ARRAY(SELECT pg_snapshot_xip(snapshot) FROM since))
               LIMIT %(cap)s))
    SELECT least(count(*), %(cap)s),
           coalesce(extract(epoch FROM clock_timestamp() - min(recorded_at)), 0)::float
      FROM fresh
"""
_UNPROJECTED = """
    SELECT p.name, coalesce(last.number, 0) - c.block,
           coalesce(extract(epoch FROM clock_timestamp() - next.sealed_at), 0)::float
      FROM projection p
      JOIN projection_checkpoint c ON c.name = p.name AND c.version = p.active AND c.scope = %(scope)s
      LEFT JOIN LATERAL (SELECT number FROM block WHERE scope = c.scope ORDER BY number DESC LIMIT 1) last
           ON true
      LEFT JOIN block next ON next.scope = c.scope AND next.number = c.block + 1
     ORDER BY p.name
"""


@dataclass(frozen=True, slots=True)
class Unsealed:
    """Events in no block yet (CAP means: so many or more), and the age of the oldest."""

    events: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Behind:
    """Blocks that a projection has still to apply, and how long the first of them has been waiting."""

    projection: str
    blocks: int
    seconds: float


def unsealed() -> Unsealed:
    with connection.cursor() as cursor:
        cursor.execute(_UNSEALED, {"scope": SCOPE, "cap": CAP})
        return Unsealed(*cursor.fetchone())


def projections() -> list[Behind]:
    with connection.cursor() as cursor:
        cursor.execute(_UNPROJECTED, {"scope": SCOPE})
        return [Behind(*row) for row in cursor.fetchall()]
