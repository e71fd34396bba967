"""What did the client and the receiver write down? Their lines, beside what the store says, to be compared.

They are kept in a private SQLite file that is gone when it is closed: millions of lines need no memory. Each
line is a JSON object:

- a client's ledger has one for each request sent: account, event_id, sha256 and size of the body, outcome
  (acknowledged, duplicate, refused, unknown), status, event (ours, or null), sent_at, answered_at;
- a receiver's sightings have one for each request seen: at, destination, delivery_id, attempt, event_id,
  sha256 of the body, signed (true, false; null: it can't tell), status that it answered, method.

Times are seconds of Unix time. A file may be written to while we read: a last line without its end is left
for later, or for ever.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import batched
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import orjson
import psycopg

from outbox.invariants.question import Progress, Question

PORTION = 10_000

_TABLES = """
CREATE TABLE ledger (account TEXT, event_id TEXT, sha256 TEXT, size INT, outcome TEXT, status INT, event TEXT,
                     answered_at REAL, lost INT DEFAULT 0);
CREATE TABLE sighting (at REAL, destination TEXT, delivery_id TEXT, attempt INT, event_id TEXT, sha256 TEXT,
                       signed INT, status INT, method TEXT, before_snapshot INT, lost INT DEFAULT 0);
CREATE TABLE content (account TEXT, event_id TEXT, event TEXT, sha256 TEXT, size INT,
                      PRIMARY KEY (account, event_id)) WITHOUT ROWID;
CREATE TABLE delivery (delivery_id TEXT, destination_id TEXT, event_id TEXT, sha256 TEXT, requests INT);
CREATE TABLE attempt (delivery_id TEXT, attempt INT, outcome TEXT);
CREATE TABLE inactive (destination_id TEXT, since REAL, until REAL);
CREATE TABLE epoch (began_at REAL);
CREATE TABLE fault (began_at REAL, ended_at REAL);
"""
_INDEXES = """
CREATE INDEX ledger_by_id ON ledger (account, event_id);
CREATE INDEX sighting_by_attempt ON sighting (delivery_id, attempt);
CREATE INDEX delivery_by_id ON delivery (delivery_id);
CREATE INDEX attempt_by_number ON attempt (delivery_id, attempt);
CREATE INDEX inactive_by_destination ON inactive (destination_id);
"""
_CONTENTS = "SELECT * FROM pusher.list_contents(%s::uuid[])"
_OF_SIGHTINGS: tuple[tuple[str, str, list[Any]], ...] = (
    ("delivery", "SELECT * FROM pusher.list_deliveries()", []),
    ("attempt", "SELECT * FROM pusher.list_attempts()", []),
    ("inactive", "SELECT * FROM pusher.list_inactive()", []),
)
_EPOCHS = "SELECT extract(epoch FROM began_at)::float8 FROM history WHERE scope = 0 AND epoch > 1"
# Between the dump and the epoch that acknowledges its restore: the store can't know of it.
_LOSE = """
UPDATE {table} SET lost = 1
 WHERE {at} >= :before AND {at} < coalesce((SELECT max(began_at) FROM epoch), 9e999)
"""
OUTCOMES = frozenset({"acknowledged", "duplicate", "refused", "unknown"})


class BooksError(Exception):
    """A line that can't be understood; the message names file and line."""


class Books:
    """Read the ledgers and sightings, then the store; then ask."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tables = sqlite3.connect("", isolation_level=None)
        self._tables.executescript("PRAGMA journal_mode = off; PRAGMA cache_size = -65536;" + _TABLES)
        self._files: dict[Path, _Lines] = {}
        self.has_ledger = self.has_sightings = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tables.close()

    def ask(self, query: str, **values: object) -> list[Any]:
        return self._tables.execute(query, values).fetchall()

    def number(self, query: str, **values: object) -> int:
        return int(self._tables.execute(query, values).fetchone()[0])

    def read_ledgers(self, paths: Sequence[Path]) -> None:
        for path in paths:
            self.has_ledger = True
            self._keep("ledger", self._lines(path).read(_request), path.name)

    def read_sightings(self, paths: Sequence[Path], *, before_snapshot: bool) -> None:
        """What has been added since the last call."""
        for path in paths:
            self.has_sightings = True
            rows = ((*row, before_snapshot) for row in self._lines(path).read(_sighting))
            self._keep("sighting", rows, path.name)

    def read_store(self, connection: psycopg.Connection[Any], question: Question) -> None:
        """What there is to compare with, from the connection's snapshot."""
        accounts = [account for (account,) in self.ask("SELECT DISTINCT account FROM ledger")]
        for table, query, values in (
            ("epoch", _EPOCHS, []),
            *((("content", _CONTENTS, [accounts]),) if self.has_ledger else ()),
            *(_OF_SIGHTINGS if self.has_sightings else ()),
        ):
            with connection.cursor(name=f"list_{table}") as cursor:
                cursor.itersize = PORTION
                self._keep(table, cursor.execute(query, values), f"{table} table")
        if question.acknowledged_before is not None:
            for table, at in (("ledger", "answered_at"), ("sighting", "at")):
                lose = _LOSE.format(table=table, at=at)
                self._tables.execute(lose, {"before": question.acknowledged_before})
        self._tables.executemany("INSERT INTO fault VALUES (?, ?)", question.faults)
        self._tables.executescript(_INDEXES)

    def _lines(self, path: Path) -> "_Lines":
        return self._files.setdefault(path, _Lines(path))

    def _keep(self, table: str, rows: Iterable[tuple[Any, ...]], source: str) -> None:
        columns = [name for _, name, *_ in self.ask(f"PRAGMA table_info({table})") if name != "lost"]
        places = ", ".join("?" * len(columns))
        insert = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})"  # noqa: S608 - names of ours
        kept = 0
        for portion in batched(rows, PORTION):
            self._tables.execute("BEGIN")
            self._tables.executemany(insert, portion)
            self._tables.execute("COMMIT")
            kept += len(portion)
            self._progress(f"reading {source}", kept, None)


class _Lines:
    """A file of JSON lines, read on from where we were."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._number = 0

    def read(self, row: Callable[[dict[str, Any]], tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
        """Raises BooksError."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                for line in file:
                    if not line.endswith(b"\n"):
                        return
                    self._offset += len(line)
                    self._number += 1
                    yield row(orjson.loads(line))
        except OSError as error:
            raise BooksError(f"{self._path}: {error.strerror}") from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise BooksError(f"{self._path}, line {self._number}: {error!r}") from error


def _request(line: dict[str, Any]) -> tuple[Any, ...]:
    if line["outcome"] not in OUTCOMES:
        raise ValueError(f"outcome {line['outcome']!r}")
    event = line.get("event")
    return (
        str(UUID(line["account"])),
        *(line[name] for name in ("event_id", "sha256", "size", "outcome")),
        line.get("status"),
        None if event is None else str(UUID(event)),
        line.get("answered_at") or line["sent_at"],
    )


def _sighting(line: dict[str, Any]) -> tuple[Any, ...]:
    attempt = line["attempt"]
    return (
        *(line[name] for name in ("at", "destination", "delivery_id")),
        None if attempt is None else int(attempt),
        *(line[name] for name in ("event_id", "sha256", "signed", "status", "method")),
    )
