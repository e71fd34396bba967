"""How do events become rows of the log, and totals? By `pusher.project_<name>`; here is what goes with it."""

from typing import Any

import psycopg

NAME = "delivery_log"
TOTALS = "delivery_total"
_SWEEP = "SELECT pusher.sweep_logs(%s)"


async def sweep(connection: psycopg.AsyncConnection[Any], *, most: int = 2_000) -> int:
    """Remove up to so many rows of a deleted account. 0: nothing is left to do, or another is at it."""
    row = await (await connection.execute(_SWEEP, [most])).fetchone()
    return row[0] if row else 0
