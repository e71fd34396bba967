"""Does the logbook read every ended delivery once, whatever the server does meanwhile?"""

import asyncio
import json
from datetime import datetime
from urllib.parse import parse_qs

import httpx
import pytest

from demo.logbook import Log, Logbook

LOGS = "/api/v1/accounts/a-1/logs/"


class Server:
    """The two doors that the logbook uses; `rows` is what the logs are now, two on a page."""

    def __init__(self) -> None:
        self.rows: list[dict] = []
        self.good = "first"
        self.asked: list[dict] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/api/v1/auth/login/":
            assert json.loads(request.content) == {"email": "e", "password": "p"}
            return httpx.Response(200, json={"data": {"token": self.good}})
        if request.headers["Authorization"] != f"Bearer {self.good}":
            return httpx.Response(401)
        query = {name: values[0] for name, values in parse_qs(request.url.query.decode()).items()}
        self.asked.append(query)
        start = int(query.get("cursor", 0))
        after = query.get("processed_timestamp_after", "")
        rows = [row for row in self.rows if not after or _moment(row) >= datetime.fromisoformat(after)]
        more = f"http://test{LOGS}?cursor={start + 2}&processed_timestamp_after={after}"
        following = more if len(rows) > start + 2 else None
        return httpx.Response(200, json={"next": following, "results": rows[start : start + 2]})


def row(number: int, status: str = "success", at: int | None = None) -> dict:
    moment = None if status == "pending" and at is None else f"2026-01-01T00:00:{at or number:02}.000000Z"
    return {
        "id": f"d-{number}",
        "event_id": f"e-{number}",
        "destination_id": "x",
        "status": status,
        "attempts": 1,
        "processed_timestamp": moment,
    }


def _moment(of: dict) -> datetime:
    return datetime.fromisoformat(of["processed_timestamp"])


def reading(server: Server, scene) -> list[str]:
    kept: list[str] = []

    async def run() -> None:
        transport = httpx.MockTransport(server)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            login = {"email": "e", "password": "p"}
            book = Logbook(client, account_id="a-1", login=login, bearer="first", keep_bearer=kept.append)
            await scene(book)

    asyncio.run(run())
    return kept


def ids(logs: list[Log]) -> list[str]:
    return [log.log_id for log in logs]


def test_all_pages_are_read_and_each_log_is_told_once() -> None:
    server = Server()

    async def scene(book: Logbook) -> None:
        server.rows = [row(number) for number in range(1, 6)]
        assert await book.news() == [Log(f"d-{n}", f"e-{n}", "x", "success", 1) for n in range(1, 6)]
        assert await book.news() == []
        server.rows.append(row(6))
        assert ids(await book.news()) == ["d-6"]

    reading(server, scene)


def test_what_waits_is_told_when_it_has_ended() -> None:
    server = Server()

    async def scene(book: Logbook) -> None:
        server.rows = [row(1, "pending"), row(2, "pending", at=2), row(3, "failed")]
        assert [(log.log_id, log.status) for log in await book.news()] == [("d-3", "failed")]
        server.rows[0] = row(1, at=20)
        assert ids(await book.news()) == ["d-1"]

    reading(server, scene)


def test_only_what_is_recent_is_asked_for_with_an_overlap() -> None:
    server = Server()

    async def scene(book: Logbook) -> None:
        book.begin("2026-01-01T00:00:05.000000Z")
        book.begin("2026-01-01T00:00:09.000000Z")  # the first moment stands
        server.rows = [row(1), row(5), row(8), row(30)]
        assert ids(await book.news()) == ["d-5", "d-8", "d-30"]
        server.rows += [row(26), row(24)]
        assert ids(await book.news()) == ["d-26"]

    reading(server, scene)
    moments = [query["processed_timestamp_after"] for query in server.asked if "cursor" not in query]
    assert moments == ["2026-01-01T00:00:05Z", "2026-01-01T00:00:25Z"]


def test_an_ended_token_is_replaced_and_kept() -> None:
    server = Server()

    async def scene(book: Logbook) -> None:
        server.rows = [row(1)]
        server.good = "second"
        assert ids(await book.news()) == ["d-1"]
        assert book.bearer == "second"

    assert reading(server, scene) == ["second"]


def test_a_server_in_trouble_is_the_callers_to_tell() -> None:
    async def scene(book: Logbook) -> None:
        with pytest.raises(httpx.HTTPStatusError):
            await book.news()

    reading(lambda _: httpx.Response(503), scene)
