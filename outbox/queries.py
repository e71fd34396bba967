"""How much is waiting? Cheap however much it is: counted up to a cap, by the claim's own indexes."""

from dataclasses import dataclass

from django.db import connection

CAP = 10_000

# A lease that has ended is due again. Claimed rows are due when their lease ends, so of what is due later
# they come first, unless more retries than the cap are due within a lease.
_DEPTH = """
    WITH due AS (SELECT due_at FROM outbox WHERE NOT held AND due_at <= statement_timestamp()
                  ORDER BY due_at LIMIT %(cap)s),
         later AS (SELECT fence FROM outbox WHERE NOT held AND due_at > statement_timestamp()
                    ORDER BY due_at LIMIT %(cap)s),
         kept AS (SELECT FROM outbox WHERE held ORDER BY destination_id, due_at LIMIT %(cap)s)
    SELECT (SELECT count(*) FROM due),
           (SELECT count(*) FROM later WHERE fence <> 0),
           (SELECT count(*) FROM later WHERE fence = 0),
           (SELECT count(*) FROM kept),
           coalesce((SELECT extract(epoch FROM statement_timestamp() - min(due_at)) FROM due), 0)::float,
           (SELECT count(*) FROM lane WHERE resting),
           (SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = 'outbox'::regclass)
"""


@dataclass(frozen=True, slots=True)
class Depth:
    """Deliveries that wait, each number up to CAP: due now; at a worker; due later; held back.

    `oldest_due_seconds`: how long the first of the due has been waiting. `resting`: destinations whose
    circuit is open. `estimated`: all rows, as of the last time that the server counted them.
    """

    due: int
    claimed: int
    scheduled: int
    held: int
    oldest_due_seconds: float
    resting: int
    estimated: int


def depth() -> Depth:
    with connection.cursor() as cursor:
        cursor.execute(_DEPTH, {"cap": CAP})
        return Depth(*cursor.fetchone())
