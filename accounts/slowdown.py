"""How often may somebody fail to log in, before they must wait?

Counted in PostgreSQL, so exact over all processes, for the e-mail address and for the place that the try
comes from. A few tries are free; then each failure begins a pause that doubles. The pause of an e-mail
address stays short, so that strangers keep nobody out for long; who tries from one place soon waits for
minutes, and a try that one of the two refuses isn't counted for the other. Keys are HMACs: the table says of
nobody that they failed.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple

from django.db import connection, transaction
from django.utils.crypto import salted_hmac

from accounts import validators

QUIET_SECONDS = 3600
"""After so long without a try all is forgotten."""


class Limit(NamedTuple):
    """`free`: tries without a pause. Then pauses grow from a second to `longest`."""

    kind: str
    free: int
    longest_seconds: int


BY_EMAIL = Limit("email", 5, 30)
BY_ADDRESS = Limit("address", 20, 300)
BY_INVITER = Limit("inviter", 50, 300)


class TooManyFailures(Exception):
    """So many tries failed that the next one has to wait; it was not looked at."""

    def __init__(self, wait_seconds: int) -> None:
        super().__init__(wait_seconds)
        self.wait_seconds = wait_seconds
        self.detail = f"Too many tries failed; the next one is looked at in {wait_seconds} s."


class _Counted(NamedTuple):
    keys: list[bytes]
    pauses: list[datetime | None]


@contextmanager
def attempt(*failures: type[Exception], address: str, email: str | None = None) -> Iterator[None]:
    """One try. It stays counted when it ends in one of `failures`, or never; whatever else gives it back.

    Counted before the password is looked at, so that tries at the same time count, too. `address` is what one
    client can't have many of; "" where it is not known. Raises TooManyFailures.
    """
    # Durable: in a transaction around it the count would go with the failure.
    with transaction.atomic(durable=True):
        counted = _count(_limits(email, address))
    try:
        yield
    except failures:
        raise
    except BaseException:
        _forgive(counted)
        raise
    _forgive(counted)


def spend(limit: Limit, who: str) -> bool:
    """Count one, whatever becomes of it but a rollback of the caller's transaction. False: it has to wait."""
    try:
        _count([(limit, who)])
    except TooManyFailures:
        return False
    return True


def _limits(email: str | None, address: str) -> list[tuple[Limit, str]]:
    by_email = [] if email is None else [(BY_EMAIL, validators.normalise_email(email))]
    return by_email + ([(BY_ADDRESS, address)] if address else [])


def _count(limits: list[tuple[Limit, str]]) -> _Counted:
    keys = [_key(limit, who) for limit, who in limits]
    free = [limit.free for limit, _ in limits]
    longest = [limit.longest_seconds for limit, _ in limits]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT wait, pauses FROM pusher.count_failure(%s::bytea[], %s::int[], %s::float8[], %s)",
            [keys, free, longest, QUIET_SECONDS],
        )
        wait, pauses = cursor.fetchone()
    if wait:
        raise TooManyFailures(math.ceil(wait))
    return _Counted(keys, pauses or [])


def _forgive(counted: _Counted) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pusher.forgive_failure(%s::bytea[], %s::timestamptz[])", [counted.keys, counted.pauses]
        )


def _key(limit: Limit, who: str) -> bytes:
    text = who.encode("utf-8", "surrogatepass")
    return salted_hmac(f"accounts.slowdown.{limit.kind}", text, algorithm="sha256").digest()
