"""Do the invariants hold? Those of the published promises, I1 to I14, on a live system and without writing.

What the store alone can tell is asked of it in one snapshot (REPEATABLE READ, READ ONLY). What a client and a
receiver wrote down is put beside it, if it is given. What is under way (leased, due, not yet sealed or
projected) is no violation; how long something may be due is a number that the caller gives.

A snapshot of minutes holds back the vacuum for minutes, as a dump does.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import psycopg
from django.conf import settings
from psycopg import IsolationLevel

from eventstore import connections, verify
from outbox.invariants import canaries, comparisons
from outbox.invariants.books import Books
from outbox.invariants.findings import NUMBERS, Finding
from outbox.invariants.question import Progress, Question

STATEMENT_MS = 30 * 60 * 1000
BETWEEN_STATEMENTS_MS = 10 * 60 * 1000  # the receiver's sightings are read then
CHANGE_MARGIN = timedelta(seconds=5)  # a change counts from its commit, and is recorded just before
LOOK_AGAIN_SECONDS = 0.5

_SETTINGS = f"SET LOCAL work_mem = '64MB'; SET LOCAL jit = off; SET LOCAL enable_nestloop = off; \
SET LOCAL idle_in_transaction_session_timeout = {BETWEEN_STATEMENTS_MS}"
_HELD = "SELECT pusher.held_for_nothing(%s::uuid[])"


def check(question: Question, progress: Progress) -> list[Finding]:
    """One finding for each invariant, in their order. Raises psycopg.Error and BooksError."""
    found = {number: Finding(number) for number in NUMBERS}
    with Books(progress) as books:
        # The ledger first: what was acknowledged before the snapshot has to be in it.
        books.read_ledgers(question.ledgers)
        books.read_sightings(question.sightings, before_snapshot=True)
        with _connect() as connection:
            with _snapshot(connection):
                _ask_the_store(connection, question, found, progress)
                # Now the rest of the sightings: what has succeeded by the snapshot was seen before.
                books.read_sightings(question.sightings, before_snapshot=False)
                books.read_store(connection, question)
            _look_again(connection, question, found["I10"])
        comparisons.compare(books, question, found, progress)
    canaries.search_logs(question.canaries, question.logs, found["I13"], progress)
    _verify(question, found["I9"], progress)
    return [found[number] for number in NUMBERS if number in question.only]


def _connect() -> psycopg.Connection[Any]:
    connection = connections.connect_sync(
        statement_timeout_ms=STATEMENT_MS, name="data-pusher check_invariants"
    )
    connection.execute("SET default_transaction_read_only = on")
    return connection


@contextmanager
def _snapshot(connection: psycopg.Connection[Any]) -> Iterator[None]:
    connection.isolation_level = IsolationLevel.REPEATABLE_READ
    connection.read_only = True
    with connection.transaction():
        connection.execute(_SETTINGS)
        yield
    connection.isolation_level = None
    connection.read_only = None


def _ask_the_store(
    connection: psycopg.Connection[Any], question: Question, found: dict[str, Finding], progress: Progress
) -> None:
    due = timedelta(seconds=question.due_within)
    lease = timedelta(seconds=settings.LEASE_SECONDS)
    checks: list[tuple[str, str, str, list[Any]]] = [
        ("I1", "events", "SELECT * FROM pusher.check_contents()", []),
        ("I2", "ids", "SELECT * FROM pusher.check_keys()", []),
        ("I4", "deliveries", "SELECT * FROM pusher.check_deliveries()", []),
        ("I4", "fan-outs", "SELECT * FROM pusher.check_fan_out(%s)", [CHANGE_MARGIN]),
        ("I8", "log rows", "SELECT * FROM pusher.check_logs()", []),
        ("I10", "waiting rows", "SELECT * FROM pusher.check_due(%s, %s)", [due, lease]),
        ("I11", "admitted", "SELECT * FROM pusher.check_limits(%s)", [CHANGE_MARGIN]),
    ]
    if question.canaries:
        needles, places = canaries.needles(question.canaries)
        checks.append(("I13", "rows", "SELECT * FROM pusher.check_canaries(%s, %s)", [needles, places]))
    for number, what, statement, parameters in checks:
        if number not in question.only:
            continue
        progress(f"{number} {what}", 0, None)
        try:
            with connection.transaction():  # a savepoint: one that takes too long leaves the others
                row = connection.execute(statement, parameters).fetchone()
        except psycopg.errors.QueryCanceled:
            found[number].error = f"{what}: not within {STATEMENT_MS // 60_000} minutes"
            continue
        checked, violated, examples = row or (0, 0, [])
        found[number].add(what, checked, violated, examples)
        progress(f"{number} {what}", 1, 1)


def _look_again(connection: psycopg.Connection[Any], question: Question, finding: Finding) -> None:
    """Rows that nothing holds come back within a moment; only looking again tells those that never do."""
    if finding.number not in question.only:
        return
    ends = time.monotonic() + question.due_within
    held = [row[0] for row in connection.execute(_HELD, [None]).fetchall()]
    while held and time.monotonic() < ends:
        time.sleep(LOOK_AGAIN_SECONDS)
        held = [row[0] for row in connection.execute(_HELD, [held]).fetchall()]
    finding.add(
        None, 0, len(held), [f"destination {one}: its rows are held, and nothing holds them" for one in held]
    )


def _verify(question: Question, finding: Finding, progress: Progress) -> None:
    """In short transactions of its own: what is sealed never changes."""
    if finding.number not in question.only:
        return
    with _connect() as connection:
        report = verify.verify(
            connection, progress=lambda done, total: progress("I9 sealed events", done, total)
        )
    finding.add("sealed events", report.events, len(report.damages), [str(one) for one in report.damages])
    finding.notes.append(f"{report.unsealed} not sealed yet")
