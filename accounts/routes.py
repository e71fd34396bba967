"""Where does a destination's delivery go, with which headers and signing keys, as of now?

Read with a worker's own connection, past Django and its caches: what was changed or deleted a moment ago
counts.
"""

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg

from accounts import vault
from accounts.vault import Headers

CACHE_BYTES = 8 << 20

_READ = """
SELECT destination_id, account_id, url, http_method, headers, signing_secrets, timeout_seconds,
       retry_schedule_seconds, active, paused, revision
  FROM pusher.route WHERE destination_id = ANY(%s)
"""


@dataclass(frozen=True, slots=True)
class Route:
    """All that sending needs. `signing_secrets`: raw keys, the current one first."""

    destination_id: UUID
    account_id: UUID
    url: str
    http_method: str
    headers: Headers
    signing_secrets: tuple[bytes, ...]
    timeout_seconds: int
    retry_schedule_seconds: tuple[int, ...]
    active: bool
    paused: bool
    revision: int


type _Secrets = tuple[Headers, tuple[bytes, ...]]
type _Key = tuple[UUID, int, int]


class _Opened:
    """Secrets that were decrypted lately, by destination, revision and number of signing secrets.

    (One of these ends by the clock, without a new revision.) The least recently used go when all take more
    than `most_bytes`.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._kept: OrderedDict[_Key, tuple[_Secrets, int]] = OrderedDict()

    def get(self, key: _Key) -> _Secrets | None:
        found = self._kept.get(key)
        if found is None:
            return None
        self._kept.move_to_end(key)
        return found[0]

    def put(self, key: _Key, secrets: _Secrets, size: int) -> None:
        self._kept[key] = secrets, size
        self._bytes += size
        while self._bytes > self._most_bytes:
            _, (_, freed) = self._kept.popitem(last=False)
            self._bytes -= freed


_opened = _Opened(CACHE_BYTES)


async def read(connection: psycopg.AsyncConnection[Any], ids: Collection[UUID]) -> dict[UUID, Route]:
    """The routes of these destinations; one that is missing is deleted, or its account is.

    Raises psycopg.Error, and encryption.Undecryptable when one of them can't be read.
    """
    cursor = await connection.execute(_READ, [list(ids)])
    return {row[0]: _route(row) for row in await cursor.fetchall()}


def _route(row: tuple[Any, ...]) -> Route:
    (
        destination_id, account_id, url, http_method, headers, signing_secrets,
        timeout_seconds, retry_schedule_seconds, active, paused, revision,
    ) = row  # fmt: skip
    key = destination_id, revision, len(signing_secrets)
    opened = _opened.get(key)
    if opened is None:
        opened = _decrypt(account_id, destination_id, headers, signing_secrets)
        _opened.put(key, opened, len(headers) + 500)
    return Route(
        destination_id=destination_id,
        account_id=account_id,
        url=url,
        http_method=http_method,
        headers=opened[0],
        signing_secrets=opened[1],
        timeout_seconds=timeout_seconds,
        retry_schedule_seconds=tuple(retry_schedule_seconds),
        active=active,
        paused=paused,
        revision=revision,
    )


def _decrypt(account_id: UUID, destination_id: UUID, headers: str, signing_secrets: list[str]) -> _Secrets:
    place = {"account_id": account_id, "destination_id": destination_id}
    return (
        vault.decrypt_headers(headers, **place),
        tuple(vault.decrypt_signing_secret(stored, **place) for stored in signing_secrets),
    )
