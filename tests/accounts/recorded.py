"""What was recorded: the events, straight from their table."""

import json
from uuid import UUID

from django.db import connection

NOBODY = UUID(int=0)


def events(account_id: UUID = NOBODY) -> list[tuple[str, UUID, int, dict]]:
    """(type, stream, version, data) of an account's events, in the order of writing."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT type, stream_id, version, data::text FROM event WHERE account_id = %s ORDER BY seq",
            [account_id],
        )
        return [
            (kind, stream, version, json.loads(data)) for kind, stream, version, data in cursor.fetchall()
        ]


def types(account_id: UUID = NOBODY) -> list[str]:
    return [kind for kind, *_ in events(account_id)]


def everything() -> str:
    """All columns of all events, as one text."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT string_agg(event::text, ' ') FROM event")
        return cursor.fetchone()[0]
