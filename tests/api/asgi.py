"""Calls an ASGI application in this process, message by message, so that bodies can misbehave."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

GONE = {"type": "http.disconnect"}


@dataclass(frozen=True)
class Reply:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    def header(self, name: str) -> str | None:
        values = [value for key, value in self.headers if key == name.lower()]
        assert len(values) < 2, f"{name} was sent twice"
        return values[0] if values else None


def parts(*chunks: bytes, end: bool = True) -> list[dict[str, Any]]:
    """The messages of a body that arrives in these chunks."""
    messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    if end and messages:
        messages[-1]["more_body"] = False
    return messages


async def call(
    app: Callable[..., Awaitable[None]],
    messages: Sequence[dict[str, Any]] = (),
    *,
    method: str = "POST",
    path: str = "/",
    query: bytes = b"",
    headers: Sequence[tuple[str | bytes, str | bytes]] = (),
) -> Reply | None:
    """One request; None when there was no answer. Once the messages are used up, receive waits."""
    waiting = list(messages)
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if waiting:
            return waiting.pop(0)
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": path,
        "query_string": query,
        "headers": [(_bytes(name), _bytes(value)) for name, value in headers],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
        "scheme": "http",
        "root_path": "",
    }
    await app(scope, receive, send)
    return _reply(sent)


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("latin-1")


def _reply(sent: list[dict[str, Any]]) -> Reply | None:
    if not sent:
        return None
    start, *rest = sent
    assert start["type"] == "http.response.start"
    assert all(message["type"] == "http.response.body" for message in rest)
    assert [message.get("more_body", False) for message in rest] == [True] * (len(rest) - 1) + [False]
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in start["headers"]]
    return Reply(start["status"], headers, b"".join(message["body"] for message in rest))
