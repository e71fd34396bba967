"""How does Django reach PostgreSQL? (The module's name and class are what Django asks of a backend.)

As Django itself does, but: the embedded server is seen to at every connection, so that it comes back by
itself; an unfit server is refused at the first; and no lost network or forgotten transaction holds a lock for
ever.
"""

from pathlib import Path
from typing import Any

import psycopg
from django.conf import settings
from django.db.backends.postgresql import base
from django.utils.asyncio import async_unsafe

from config import embedded, fitness, keeper

KEEPALIVE = {
    "connect_timeout": 10,
    "keepalives": 1,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    "application_name": "data-pusher",
}
LIMITS = "-c idle_in_transaction_session_timeout=60s -c lock_timeout=10s -c statement_timeout=120s"


class DatabaseWrapper(base.DatabaseWrapper):
    _fit: set[tuple[Any, ...]] = set()

    def get_connection_params(self) -> dict[str, Any]:
        parameters = {**KEEPALIVE, **super().get_connection_params()}
        as_owner = self.settings_dict.get("AS_OWNER", False)
        if data_dir := self.settings_dict.get("EMBEDDED"):
            server = embedded.attach(Path(data_dir), major=settings.EMBEDDED_POSTGRES)
            parameters |= server.login(keeper.OWNER if as_owner else keeper.APPLICATION)
        if not as_owner:  # an index takes the time it takes
            parameters["options"] = f"{LIMITS} {parameters.get('options', '')}".strip()
        return parameters

    @async_unsafe
    def get_new_connection(self, conn_params: dict[str, Any]) -> psycopg.Connection[Any]:
        connection: psycopg.Connection[Any] = super().get_new_connection(conn_params)
        server = tuple(conn_params.get(key) for key in ("host", "port", "dbname", "user"))
        if server not in self._fit:
            try:
                fitness.check(connection)
                connection.rollback()
            except BaseException:
                connection.close()
                raise
            self._fit.add(server)
        return connection
