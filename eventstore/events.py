"""What is an event? A small fact: whose, about what, of which type, and a few ids, numbers and short strings.

Never a secret, a payload or an e-mail address. Plain records: this module knows no Django.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

SCOPE = 0  # the accounts that live on one database node: all of them, so far
NO_ACCOUNT = UUID(int=0)
"""The account of facts that belong to none (a user registered)."""

MOST_BYTES = 64 * 1024
UNBOUNDED = frozenset({"event.received"})
"""It lists its deliveries, however many destinations there were."""


class UnfitError(ValueError):
    """The data can't stand in an event: the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEvent:
    """An event that is not yet stored. Raises UnfitError when its data is too large or has no exact form."""

    type: str
    account_id: UUID
    stream_id: UUID
    data: Mapping[str, Any]

    def __post_init__(self) -> None:
        _check(self.data)
        if self.type not in UNBOUNDED and len(self.json().encode()) > MOST_BYTES:
            raise UnfitError(f"{self.type}: the data is over {MOST_BYTES} bytes")

    def json(self) -> str:
        return json.dumps(self.data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedEvent:
    """An event as the store has it; `position` is its place in the sealed history, `block` who sealed it."""

    position: int | None
    block: int | None
    type: str
    account_id: UUID
    stream_id: UUID
    version: int
    recorded_at: datetime
    payload_digest: bytes | None
    data: Mapping[str, Any]


def _check(value: object) -> None:
    match value:
        case None | bool() | int():
            pass
        case str():
            _check_text(value)
        case Mapping():
            for key, member in value.items():
                if not isinstance(key, str):
                    raise UnfitError(f"a key must be a string, not {type(key).__name__}")
                _check_text(key)
                _check(member)
        case list() | tuple():
            for member in value:
                _check(member)
        case float():
            raise UnfitError("no floats: durations are integers, times are ISO strings")
        case _:
            raise UnfitError(f"{type(value).__name__} has no form in JSON that all read alike")


def _check_text(text: str) -> None:
    if "\0" in text:
        raise UnfitError("text with a NUL can't be stored")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UnfitError("text with a lone surrogate can't be stored") from None
