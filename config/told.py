"""What may be told of an error, in a log or to Sentry? Where it happened, and words that quote no data.

A driver's or a library's message repeats what it could not take: a token, a header, a row. So a message is
told only where it comes from the interpreter, the operating system, or from PostgreSQL about its own state.
"""

import os
import socket
import ssl
import traceback
from collections.abc import Iterator
from typing import Any

MOST_CHAINED = 10
LONGEST = 300

# PostgreSQL's classes of errors whose first line names objects and limits, never values: connection,
# transaction, login, rollback, access rules, resources, limits, states, operators, system. DP is our own.
_SAFE_CLASSES = frozenset(("08", "25", "28", "40", "42", "53", "54", "55", "57", "58", "DP"))
_SAFE_TYPES = (AttributeError, NameError, ImportError)

_CAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"
_CONTEXT = "\nDuring handling of the above exception, another exception occurred:\n\n"


def words(error: BaseException) -> str:
    """The error's kind, and as much of its message as can't quote anybody's data."""
    told = _message(error)
    return f"{_name(error)}: {told}" if told else _name(error)


def trace(error: BaseException) -> str:
    """A traceback as Python prints it, with `words` in place of messages, and never with local variables."""
    return "".join(_parts(error)).rstrip("\n")


def chain(error: BaseException) -> list[tuple[BaseException, str]]:
    """The errors that led to this one, first cause first, each with what connects it to the next."""
    found = [(error, "")]
    current: BaseException | None = error
    while current is not None and len(found) < MOST_CHAINED:
        before, link = _before(current)
        if before is None or any(before is known for known, _ in found):
            break
        found.append((before, link))
        current = before
    return found[::-1]


def _before(error: BaseException) -> tuple[BaseException | None, str]:
    if error.__cause__ is not None:
        return error.__cause__, _CAUSE
    return (None, "") if error.__suppress_context__ else (error.__context__, _CONTEXT)


def _parts(error: BaseException) -> Iterator[str]:
    for one, link in chain(error):
        if one.__traceback__ is not None:
            yield "Traceback (most recent call last):\n"
            yield from traceback.format_tb(one.__traceback__)
        yield words(one) + "\n"
        if isinstance(one, BaseExceptionGroup):
            for inner in one.exceptions[:MOST_CHAINED]:
                yield from _parts(inner)
        yield link


def _name(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _message(error: BaseException) -> str:
    if isinstance(error, _SAFE_TYPES):
        return _clipped(str(error))
    if isinstance(error, OSError):
        return _of_the_system(error)
    return _of_the_database(error)


def _of_the_system(error: OSError) -> str:
    """By its number: the words beside it may be a library's."""
    if isinstance(error, ssl.SSLError):
        return str(getattr(error, "reason", None) or "")
    if isinstance(error, socket.gaierror):
        return error.strerror or ""
    return os.strerror(error.errno) if isinstance(error.errno, int) else ""


def _of_the_database(error: BaseException) -> str:
    """psycopg's errors know their state; Django wraps them."""
    for origin in filter(None, (error, error.__cause__)):
        if hasattr(origin, "sqlstate") and hasattr(origin, "diag"):
            return _stateless(origin) if origin.sqlstate is None else _diagnosed(origin.sqlstate, origin.diag)
    return ""


def _stateless(error: BaseException) -> str:
    """The client's library speaks: "connection refused", but also "can't adapt 'x'"."""
    return _clipped(str(error)) if type(error).__name__ == "OperationalError" else ""


def _diagnosed(state: str, diagnosis: Any) -> str:
    told = diagnosis.message_primary if state[:2] in _SAFE_CLASSES else None
    return _clipped(" ".join(filter(None, (state, told, diagnosis.constraint_name))))


def _clipped(text: str) -> str:
    return " ".join(text.split())[:LONGEST]
