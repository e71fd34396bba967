"""What does a client read in the logs? It logs in, and asks again and again for what has ended since."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import httpx

OVERLAP = timedelta(seconds=5)  # a log is readable a moment after its attempt ended, and not in that order
PAGE = 100


@dataclass(frozen=True)
class Log:
    """One event at one destination, ended."""

    log_id: str
    event_id: str
    destination_id: str
    status: str
    attempts: int


class Logbook:
    """Reads `/api/v1/accounts/{id}/logs/` with a bearer token, and gets a new one when needed."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        *,
        account_id: str,
        login: dict[str, str],
        bearer: str,
        keep_bearer: Callable[[str], None],
    ) -> None:
        self._client = client
        self._path = f"/api/v1/accounts/{account_id}/logs/"
        self._login = login
        self.bearer = bearer
        self._keep_bearer = keep_bearer
        self._seen: set[str] = set()
        self._since: datetime | None = None

    def begin(self, since: str) -> None:
        """Logs of attempts that ended before (ISO 8601, by the server's clock) are not asked for."""
        self._since = self._since or datetime.fromisoformat(since)

    async def news(self) -> list[Log]:
        """What has ended and was not told yet. Raises httpx.HTTPError when the server can't be asked."""
        rows = [row for row in await self._rows() if row["processed_timestamp"]]
        if rows:
            newest = max(datetime.fromisoformat(row["processed_timestamp"]) for row in rows)
            self._since = max(newest - OVERLAP, self._since) if self._since else newest - OVERLAP
        return list(self._told_once(rows))

    def _told_once(self, rows: list[dict[str, Any]]) -> Iterator[Log]:
        for row in rows:
            if row["status"] == "pending" or row["id"] in self._seen:
                continue
            self._seen.add(row["id"])
            fields = (row[name] for name in ("event_id", "destination_id", "status", "attempts"))
            yield Log(row["id"], *fields)

    async def _rows(self) -> list[dict[str, Any]]:
        query: dict[str, str] = {"page_size": str(PAGE)}
        if self._since:
            query["processed_timestamp_after"] = self._since.isoformat().replace("+00:00", "Z")
        rows: list[dict[str, Any]] = []
        page = self._path
        while page:
            answer = await self._get(page, query)
            answer.raise_for_status()
            found = answer.json()
            rows += found["results"]
            page, query = found["next"], {}
        return rows

    async def _get(self, url: str, query: dict[str, str]) -> httpx.Response:
        answer = await self._ask(url, query)
        if answer.status_code == 401:
            await self._log_in()
            answer = await self._ask(url, query)
        return answer

    async def _ask(self, url: str, query: dict[str, str]) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.bearer}"}
        # An empty mapping of parameters would take away those that `next` carries.
        return await self._client.get(url, params=query or None, headers=headers)

    async def _log_in(self) -> None:
        answer = await self._client.post("/api/v1/auth/login/", json=self._login)
        answer.raise_for_status()
        self.bearer = answer.json()["data"]["token"]
        self._keep_bearer(self.bearer)
