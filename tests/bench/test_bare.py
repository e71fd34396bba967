"""Does the bare server answer as many bytes as the product?"""

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson

from api.receiver import Answer, _accepted
from bench import bare
from outbox.intake import Outcome, Verdict

NAME = "accepts.64.1KB.1-0-00000001"
VERDICT = Verdict(
    Outcome.ACCEPTED,
    event=UUID(int=0),
    received_at=datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
    deliveries=1,
    limit=1_000_000,
    remaining=999_999,
)


async def answered(body: list[bytes]) -> list[dict[str, Any]]:
    parts = [{"body": part, "more_body": part is not body[-1]} for part in body]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return parts.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "headers": [(b"host", b"h"), (b"cl-x-event-id", NAME.encode())]}
    await bare.application(scope, receive, send)
    assert not parts  # the body was read
    return sent


def test_it_answers_with_the_bytes_of_an_accept() -> None:
    product: Answer = _accepted(VERDICT, NAME)
    start, body = asyncio.run(answered([b"{", b"}"]))
    assert start["status"] == product.status
    assert sorted(start["headers"]) == sorted(product.headers)
    assert len(body["body"]) == len(product.body)
    assert orjson.loads(body["body"])["event"]["event_id"] == NAME
