"""How are passwords hashed, and how many at once?

A hash takes 100 MB and 50 ms of a core by design (Argon2), and the thread of its request: few run at a time,
few more wait, and the rest are refused, so that a flood of log-ins leaves memory and threads to others.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore
from typing import NamedTuple

from django.contrib.auth import hashers

from accounts import validators

AT_ONCE = 2
MOST_WAITING = 4  # with the two that run, fewer than the process has threads for requests
WAIT_SECONDS = 5.0
NO_PASSWORD = hashers.UNUSABLE_PASSWORD_PREFIX
"""The hash of nobody's password; verified against, it takes as long as any."""


class Busy(Exception):
    """So many passwords are being hashed that this one has no turn; try again in a moment."""


class Verified(NamedTuple):
    """`renewed`: the hash to store from now on, where the stored one is made as none is made any more."""

    right: bool
    renewed: str | None = None


_line = BoundedSemaphore(AT_ONCE + MOST_WAITING)
_turns = BoundedSemaphore(AT_ONCE)


def make(password: str) -> str:
    """The hash to store. Raises Busy."""
    with turn():
        return hashers.make_password(password)


def verify(password: str, stored: str) -> Verified:
    """Raises Busy, whatever is stored."""
    with turn():
        # Without a password, or against none, Django hashes all the same, so that the time tells nothing.
        presented = password if validators.is_fit(password) else None
        right, outdated = hashers.verify_password(presented, stored)
        return Verified(right, hashers.make_password(password) if right and outdated else None)


@contextmanager
def turn() -> Iterator[None]:
    """Raises Busy: at once when the line is long, else when the turn doesn't come in time."""
    if not _line.acquire(blocking=False):
        raise Busy
    try:
        if not _turns.acquire(timeout=WAIT_SECONDS):
            raise Busy
        try:
            yield
        finally:
            _turns.release()
    finally:
        _line.release()
