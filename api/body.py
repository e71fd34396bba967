"""How is a request's body read? Whole, never longer than it said, and within a time that is ours."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from config.deadlines import within

type Message = MutableMapping[str, Any]
type Receive = Callable[[], Awaitable[Message]]
type Send = Callable[[Message], Awaitable[None]]

SECONDS = 20.0
LENGTH_DIGITS = 18


class TooSlow(Exception):
    """The body did not arrive in time."""


class WrongLength(Exception):
    """The body is longer or shorter than its Content-Length.

    Also when the client shut its half of the connection: it may still listen, so there is an answer.
    """


def length(value: bytes) -> int | None:
    """A Content-Length header's number; None when it isn't one (RFC 9110, 8.6: digits only)."""
    return int(value) if value.isdigit() and len(value) <= LENGTH_DIGITS else None


def nothing(_size: int) -> None:
    pass


async def read(
    receive: Receive,
    expected: int,
    *,
    seconds: float = SECONDS,
    arrived: Callable[[int], None] = nothing,
) -> bytes:
    """The body of `expected` bytes; `arrived` is told the size of each piece, and may raise.

    Raises TooSlow, WrongLength.
    """
    try:
        async with within(seconds):
            return await _read(receive, expected, arrived)
    except TimeoutError:
        raise TooSlow from None


async def _read(receive: Receive, expected: int, arrived: Callable[[int], None]) -> bytes:
    parts: list[bytes] = []
    missing = expected
    while missing:
        message = await receive()
        if message["type"] != "http.request":
            raise WrongLength
        part = message.get("body", b"")
        missing -= len(part)
        if missing < 0 or (missing and not message.get("more_body", False)):
            raise WrongLength
        arrived(len(part))
        parts.append(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
