"""How are the logs built anew from the history, beside the live ones, while everybody reads and writes?

A new version of the log is a table of its own. It is filled from the first block on, gets its indexes by
becoming a partition of `delivery_log`, catches up, and is compared row for row with the live one: all of it
at one common block, without a lock, and what happened since then under the lock of both checkpoints, in which
the pointer is switched as well. Readers never wait: the old table leaves by DETACH CONCURRENTLY, in short
attempts.

Only the owner of the tables may do this.
"""

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import IsolationLevel, sql

from delivery.projections import NAME
from eventstore import connections
from eventstore.events import SCOPE

type Connection = psycopg.Connection[Any]
type Progress = Callable[[str, int, int], None]

BLOCKS = 1_000
NAMED_DIFFERENCES = 20
RETIRE_LOCK_MS = 200
RETIRE_SECONDS = 20.0
_ONE_AT_A_TIME = 0x6C6F6773

_CONTENT = """ROW(event_id, client_event_id, destination_id, received_at, processed_at, status, attempts,
    reason, response_status, next_attempt_at, position)"""


class RebuildError(Exception):
    """The rebuild came to nothing, and the live logs are as they were; the message says why."""


class DifferentError(RebuildError):
    """The logs built anew are not the live ones: `deliveries` names the first that differ."""

    def __init__(self, deliveries: list[Any]) -> None:
        super().__init__(
            f"{len(deliveries)} deliveries or more differ: {', '.join(map(str, deliveries))}"
            if len(deliveries) == NAMED_DIFFERENCES
            else f"{len(deliveries)} deliveries differ: {', '.join(map(str, deliveries))}"
        )
        self.deliveries = deliveries


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """`left`: the tables of older versions that are still in use, for the next rebuild to remove."""

    version: int
    rows: int
    left: list[str]


def rebuild(progress: Progress, *, compare: bool = True) -> Rebuilt:
    """Build, compare, switch, and remove the old. Raises RebuildError; then nothing is switched.

    Not to compare is for logs that are known to be wrong, or for a projection that was changed.

    `progress` is called with a step's name, how much of it is done, and of how much. Django's connection must
    be the owner's.
    """
    with connections.connect_sync(name="data-pusher rebuild") as connection:
        row = connection.execute("SELECT pg_try_advisory_lock(%s)", [_ONE_AT_A_TIME]).fetchone()
        if row != (True,):
            raise RebuildError("another rebuild is going on")
        try:
            return _Rebuild(connection, progress).run(compare=compare)
        finally:
            # A closed connection's session ends a moment later: the next rebuild need not meet its lock.
            with contextlib.suppress(psycopg.Error):
                connection.execute("SELECT pg_advisory_unlock(%s)", [_ONE_AT_A_TIME])


class _Rebuild:
    def __init__(self, connection: Connection, progress: Progress) -> None:
        self.connection = connection
        self.progress = progress
        self.live = self.number("SELECT active FROM projection WHERE name = %s", NAME)
        self.new = 1 + self.number("SELECT max(version) FROM projection_checkpoint WHERE name = %s", NAME)

    def run(self, *, compare: bool) -> Rebuilt:
        retire(self.connection, keep=self.live)
        try:
            self.create()
            self.catch_up("building")
            self.attach()
            self.catch_up("catching up")
            compared = self.compare() if compare else None
            self.catch_up("catching up")
            self.switch(compared)
        except BaseException:
            retire(self.connection, keep=self.live)
            raise
        left = retire(self.connection, keep=self.new)
        query = sql.SQL("SELECT count(*) FROM {}").format(_table(self.new))
        return Rebuilt(self.new, self.number(query), left)

    def create(self) -> None:
        """A table with no index but its key: the others are built faster when the rows are there."""
        new, live = _table(self.new), _table(self.live)
        with self.connection.transaction():
            self.connection.execute(sql.SQL(_CREATE).format(new, sql.Literal(self.new)))
            self.connection.execute(_CHECKPOINT_OF_ITS_OWN, [NAME, self.new])
            for (role,) in self.connection.execute(_WRITERS, [live.as_string()]).fetchall():
                grant = sql.SQL("GRANT SELECT, INSERT, UPDATE, DELETE ON {} TO {}")
                self.connection.execute(grant.format(new, sql.Identifier(role)))

    def attach(self) -> None:
        """Its indexes are built by this. The parent stays open to readers; the check spares a scan."""
        self.progress("indexing", 0, 1)
        attach = sql.SQL("ALTER TABLE delivery_log ATTACH PARTITION {} FOR VALUES IN ({})")
        self.connection.execute(attach.format(_table(self.new), sql.Literal(self.new)))
        self.connection.execute(sql.SQL("ANALYZE {}").format(_table(self.new)))
        self.progress("indexing", 1, 1)

    def catch_up(self, step: str) -> None:
        done = self.block(self.new)
        while applied := self.number("SELECT pusher.project_version(%s, %s, %s)", NAME, self.new, BLOCKS):
            done += applied
            total = self.number("SELECT coalesce(max(number), 0) FROM block WHERE scope = %s", SCOPE)
            self.progress(step, done, max(done, total))

    def compare(self) -> int:
        """Compare everything as it is at one block. Returns the last position of that block."""
        self.progress("comparing", 0, 1)
        self.wait_for_live()
        with self.at_one_block() as reader:
            position = self.position(self.block(self.live, reader), reader)
            self.require_equal(reader, since=None)
        self.progress("comparing", 1, 1)
        return position

    @contextmanager
    def at_one_block(self) -> Iterator[Connection]:
        """A connection to whose one snapshot both versions stand at the same block; the live one goes on."""
        with connections.connect_sync(name="data-pusher compare") as reader:
            reader.isolation_level = IsolationLevel.REPEATABLE_READ
            with connections.connect_sync(name="data-pusher hold") as holder, holder.transaction():
                holder.execute(_HOLD, [NAME, [self.live]])
                self.catch_up_to(self.block(self.live))
                reader.autocommit = False
                reader.execute("SELECT")  # takes the snapshot
            yield reader
            reader.rollback()

    def switch(self, compared: int | None) -> None:
        """Under both locks no projector moves, and each reads the pointer anew when it gets its lock."""
        if compared is not None:
            self.wait_for_live()
        with self.connection.transaction():
            self.connection.execute(_HOLD, [NAME, [self.live, self.new]])
            self.catch_up_to(self.block(self.live))
            if compared is not None:
                self.require_equal(self.connection, since=compared)
            self.connection.execute("UPDATE projection SET active = %s WHERE name = %s", [self.new, NAME])

    def wait_for_live(self) -> None:
        """Nobody else moves the new version; but the live one may lag behind it, all by itself."""
        while self.block(self.live) < self.block(self.new):
            if not self.number("SELECT pusher.project(%s, %s)", NAME, BLOCKS):
                time.sleep(0.02)  # another one is at it

    def catch_up_to(self, block: int) -> None:
        while (missing := block - self.block(self.new)) > 0:
            self.number("SELECT pusher.project_version(%s, %s, %s)", NAME, self.new, min(missing, BLOCKS))

    def require_equal(self, connection: Connection, *, since: int | None) -> None:
        differing = connection.execute(_differences(self.live, self.new, since), {"since": since}).fetchall()
        if differing:
            raise DifferentError([delivery for (delivery,) in differing])

    def block(self, version: int, connection: Connection | None = None) -> int:
        return _number(connection or self.connection, _CHECKPOINT, [NAME, version, SCOPE])

    def position(self, block: int, connection: Connection) -> int:
        return _number(connection, _LAST_POSITION, [SCOPE, block])

    def number(self, query: sql.Composable | str, *values: object) -> int:
        return _number(self.connection, query, values)


def retire(connection: Connection, *, keep: int) -> list[str]:
    """Remove all versions but one. Returns the tables that are in use for longer than our patience."""
    deadline = time.monotonic() + RETIRE_SECONDS
    old = [version for version in _versions(connection) if version != keep]
    return [f"delivery_log_v{version}" for version in old if not _retire(connection, version, deadline)]


def _retire(connection: Connection, version: int, deadline: float) -> bool:
    # Short: while we wait for one old transaction, every new reader would queue behind us.
    connection.execute(sql.SQL("SET lock_timeout = {}").format(sql.Literal(RETIRE_LOCK_MS)))
    try:
        while True:
            try:
                _detach(connection, version)
                connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(_table(version)))
                break
            except psycopg.errors.LockNotAvailable:
                if time.monotonic() > deadline:
                    return False
                time.sleep(RETIRE_LOCK_MS / 1000)
    finally:
        connection.execute(sql.SQL("SET lock_timeout = {}").format(sql.Literal(connections.LOCK_MS)))
    connection.execute("DELETE FROM projection_checkpoint WHERE name = %s AND version = %s", [NAME, version])
    connection.execute("DELETE FROM delivery_log_erased WHERE version = %s", [version])
    return True


def _detach(connection: Connection, version: int) -> None:
    name = f"delivery_log_v{version}"
    row = connection.execute(_ATTACHED, [name]).fetchone()
    if row is not None:
        how = "FINALIZE" if row[0] else "CONCURRENTLY"  # pending: an earlier attempt got half of the way
        statement = sql.SQL("ALTER TABLE delivery_log DETACH PARTITION {} " + how)
        connection.execute(statement.format(sql.Identifier(name)))


def _versions(connection: Connection) -> list[int]:
    tables = connection.execute(_TABLES).fetchall()
    return sorted(
        int(name.rpartition("_v")[2]) for (name,) in tables if re.fullmatch(r"delivery_log_v\d+", name)
    )


def _table(version: int) -> sql.Identifier:
    return sql.Identifier(f"delivery_log_v{version}")


def _number(connection: Connection, query: sql.Composable | str, values: Any) -> int:
    row = connection.execute(query, values).fetchone()  # type: ignore[arg-type]  # literals, all of them ours
    return int(row[0]) if row and row[0] is not None else 0


def _differences(live: int, new: int, since: int | None) -> sql.Composed:
    """The deliveries in one version only, or unlike in any column; since a position: of those touched.

    Rows of deleted accounts don't count: they are hidden, and go at each version's own pace.
    """
    touched = sql.SQL("" if since is None else _TOUCHED)
    return sql.SQL(_DIFFERENCES).format(
        live=_table(live),
        new=_table(new),
        content=sql.SQL(_CONTENT),
        touched=touched,
        most=sql.Literal(NAMED_DIFFERENCES),
    )


_DIFFERENCES = """
SELECT delivery_id
  FROM (SELECT account_id, delivery_id, {content} AS content FROM {live}
         WHERE account_id NOT IN (SELECT account_id FROM delivery_log_erased) {touched}) live
  FULL JOIN
       (SELECT account_id, delivery_id, {content} AS content FROM {new}
         WHERE account_id NOT IN (SELECT account_id FROM delivery_log_erased) {touched}) new
 USING (account_id, delivery_id)
 WHERE live.content IS DISTINCT FROM new.content
 ORDER BY delivery_id LIMIT {most}
"""
_TOUCHED = """
 AND (account_id, delivery_id) IN (
    SELECT h.account_id, h.stream_id
      FROM pusher.happened(0::smallint, %(since)s + 1, 9223372036854775807) h
    UNION ALL
    SELECT h.account_id, (d.pair ->> 0)::uuid
      FROM pusher.happened(0::smallint, %(since)s + 1, 9223372036854775807) h,
           jsonb_array_elements(h.data -> 'deliveries') AS d(pair)
     WHERE h.type = 'event.received')
"""
_CREATE = """
CREATE TABLE {0} (
    LIKE delivery_log INCLUDING DEFAULTS INCLUDING CONSTRAINTS,
    PRIMARY KEY (version, account_id, delivery_id),
    CONSTRAINT of_version CHECK (version = {1})
)
"""
_CHECKPOINT_OF_ITS_OWN = "INSERT INTO projection_checkpoint (name, version) VALUES (%s, %s)"
_WRITERS = """
SELECT DISTINCT r.rolname
  FROM pg_class c, aclexplode(c.relacl) a JOIN pg_roles r ON r.oid = a.grantee
 WHERE c.oid = %s::regclass AND a.privilege_type = 'INSERT' AND a.grantee <> c.relowner
"""
_HOLD = """
SELECT FROM projection_checkpoint WHERE name = %s AND version = ANY(%s) ORDER BY version FOR UPDATE
"""
_CHECKPOINT = "SELECT block FROM projection_checkpoint WHERE name = %s AND version = %s AND scope = %s"
_LAST_POSITION = "SELECT first_position + count - 1 FROM block WHERE scope = %s AND number = %s"
_TABLES = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
_ATTACHED = "SELECT inhdetachpending FROM pg_inherits WHERE inhrelid = to_regclass(%s)"
