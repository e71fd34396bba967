"""How does the hot path reach PostgreSQL? By psycopg itself, at the address that Django knows, in autocommit.

The address (with its keepalives) is that of Django's connection, so that the embedded server starts by itself
here, too. Every connection carries limits, so that no stopped client holds a lock for long.
"""

import asyncio
from typing import Any

import psycopg
from django.db import connection

IDLE_IN_TRANSACTION_MS = 15_000
LOCK_MS = 10_000


async def connect(
    *, statement_timeout_ms: int = 0, name: str = "data-pusher"
) -> psycopg.AsyncConnection[Any]:
    """An asynchronous connection in autocommit; 0: a statement may take any time."""
    # Asking where the database is may wait for the embedded one to start: not in the caller's loop.
    parameters = await asyncio.to_thread(_parameters, statement_timeout_ms, name)
    return await psycopg.AsyncConnection.connect(autocommit=True, **parameters)


def connect_sync(*, statement_timeout_ms: int = 0, name: str = "data-pusher") -> psycopg.Connection[Any]:
    """The same for commands and tests."""
    return psycopg.Connection.connect(autocommit=True, **_parameters(statement_timeout_ms, name))


def _parameters(statement_timeout_ms: int, name: str) -> dict[str, Any]:
    address = {
        key: value
        for key, value in connection.get_connection_params().items()
        # Django's own cursor and adapters are for its ORM; ours prepare and bind on the server.
        if key not in {"cursor_factory", "context", "prepare_threshold"}
    }
    limits = {
        "timezone": "UTC",
        "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION_MS,
        "lock_timeout": LOCK_MS,
        "statement_timeout": statement_timeout_ms,
        "synchronous_commit": "on",
    }
    given = address.pop("options", "")
    options = " ".join([given, *(f"-c {key}={value}" for key, value in limits.items())]).strip()
    return {**address, "application_name": name, "options": options}
