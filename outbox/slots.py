"""Which drain works in which slot? A slot is a leased row.

Whoever holds it may drain, and a stopped process loses it. Two drains in one slot would do no harm (each
outbox row has its own fence); the slot keeps their number down.
"""

from typing import Any
from uuid import UUID

import psycopg
from django.db import connection

LEASE_SECONDS = 6

_TAKE = """
    INSERT INTO slot (slot, owner, lease_until)
    VALUES (%(slot)s, %(owner)s, clock_timestamp() + %(lease)s * interval '1 second')
    ON CONFLICT (slot) DO UPDATE SET owner = excluded.owner, lease_until = excluded.lease_until
     WHERE slot.lease_until <= clock_timestamp()
    RETURNING true
"""
# A lease that has ended but that nobody took is still ours: the database was away, not we.
_RENEW = """
    UPDATE slot SET lease_until = clock_timestamp() + %(lease)s * interval '1 second'
     WHERE slot = %(slot)s AND owner = %(owner)s
    RETURNING true
"""
_RELEASE = "DELETE FROM slot WHERE slot = %(slot)s AND owner = %(owner)s RETURNING true"
_FREE = """
    SELECT wanted FROM generate_series(0, %s - 1) AS wanted
     WHERE NOT EXISTS (SELECT FROM slot WHERE slot = wanted AND lease_until > clock_timestamp())
     ORDER BY wanted
"""


async def take(connection: psycopg.AsyncConnection[Any], *, slot: int, owner: UUID) -> bool:
    return await _done(connection, _TAKE, slot, owner)


async def renew(connection: psycopg.AsyncConnection[Any], *, slot: int, owner: UUID) -> bool:
    """False: the slot is another's now."""
    return await _done(connection, _RENEW, slot, owner)


async def release(connection: psycopg.AsyncConnection[Any], *, slot: int, owner: UUID) -> bool:
    return await _done(connection, _RELEASE, slot, owner)


def free(count: int) -> list[int]:
    """Those of the slots 0 to `count` - 1 that nobody holds, by Django's connection."""
    with connection.cursor() as cursor:
        cursor.execute(_FREE, [count])
        return [slot for (slot,) in cursor.fetchall()]


async def _done(connection: psycopg.AsyncConnection[Any], statement: str, slot: int, owner: UUID) -> bool:
    cursor = await connection.execute(statement, {"slot": slot, "owner": owner, "lease": LEASE_SECONDS})
    return await cursor.fetchone() is not None
