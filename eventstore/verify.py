"""Is the history whole? Recompute every leaf, root and link from the stored columns, and count.

An implementation of its own, on purpose: it shares no code with the SQL that seals, so that a fault in one
shows in the other. What it checks, block by block in order:

- the chain: numbers without a gap, each block's hash over its line, each `previous` the hash before;
- the positions: dense, each with exactly one event, leaf by leaf, and the root over them (RFC 6962);
- the order: inside a block by seq; each event's transaction had ended by this block's snapshot and not by
  the one before (so it stands nowhere else); each stream's versions 1, 2, 3 ... in the order of positions;
- the payloads that still exist: SHA-256(salt + bytes) is the event's digest;
- the count: no event should have been sealed by now and isn't, no position lies outside of the blocks.

A history that was cut off at its end looks whole from inside: give the head that you noted earlier.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple, Self

import psycopg

from eventstore.events import SCOPE

PORTION = 5_000
MOST_DAMAGES = 20
NO_BLOCK = bytes(32)


class HeadError(ValueError):
    """A head is written <block number>:<hash in hex>."""


@dataclass(frozen=True, slots=True)
class Head:
    """The last block by number and hash: whoever notes it can tell later if anything before was changed."""

    number: int
    hash: bytes

    @classmethod
    def parse(cls, text: str) -> Self:
        number, _, digest = text.partition(":")
        try:
            head = cls(int(number), bytes.fromhex(digest))
        except ValueError:
            head = cls(0, b"")
        if len(head.hash) != hashlib.sha256().digest_size:
            raise HeadError(f"{text!r} is not <block number>:<hash in hex>")
        return head

    def __str__(self) -> str:
        return f"{self.number}:{self.hash.hex()}"


@dataclass(frozen=True, slots=True)
class Damage:
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass(slots=True)
class Report:
    """What was found. The damages stand in the order of the history; no more than MOST_DAMAGES are named."""

    events: int = 0
    blocks: int = 0
    unsealed: int = 0
    payloads: int = 0
    head: Head | None = None
    damages: list[Damage] = field(default_factory=list)

    def note(self, where: str, what: str) -> None:
        if len(self.damages) < MOST_DAMAGES:
            self.damages.append(Damage(where, what))


class Snapshot(NamedTuple):
    """PostgreSQL's pg_snapshot: which transactions had ended?"""

    end: int
    running: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> Self:
        _, end, running = text.split(":")
        return cls(int(end), frozenset(map(int, filter(None, running.split(",")))))

    def has(self, xid: int) -> bool:
        return xid < self.end and xid not in self.running


@dataclass(frozen=True, slots=True)
class Block:
    number: int
    epoch: int
    snapshot: str
    first_position: int
    count: int
    root: bytes
    previous: bytes
    hash: bytes
    sealed_at: datetime


class Row(NamedTuple):
    """A position, its event (None: there is none), the event before it in its stream, its payload's hash."""

    position: int
    block: int
    account_id: str
    epoch: int
    xid: int
    seq: int
    leaf: bytes
    event_account_id: str | None
    stream_id: str
    version: int
    type: str
    data: str
    payload_digest: bytes | None
    recorded_at: datetime
    prior_epoch: int | None
    prior_xid: int
    prior_seq: int
    payload_hash: bytes | None


_BLOCKS = """
SELECT number, epoch, snapshot::text, first_position, count, root, previous, hash, sealed_at
  FROM block WHERE scope = %s AND number > %s ORDER BY number LIMIT 1000
"""
_ROWS = """
COPY (
    SELECT p.position, p.block, p.account_id::text, p.epoch, p.xid::text::bigint, p.seq, p.leaf,
           e.account_id::text, e.stream_id::text, e.version, e.type, e.data::text,
           e.payload_digest, e.recorded_at,
           prior.epoch, prior.xid::text::bigint, prior.seq,
           sha256(payload.salt || payload.body)
      FROM event_position p
      LEFT JOIN event e ON e.scope = p.scope AND e.epoch = p.epoch AND e.xid = p.xid AND e.seq = p.seq
      LEFT JOIN event prior ON prior.account_id = e.account_id AND prior.stream_id = e.stream_id
                           AND prior.version = e.version - 1
      LEFT JOIN payload ON e.payload_digest IS NOT NULL AND payload.account_id = e.account_id
                       AND payload.event_id = e.stream_id
     WHERE p.scope = %s AND p.position BETWEEN %s AND %s
     ORDER BY p.position
) TO STDOUT (FORMAT BINARY)
"""
_POSITION_TYPES = ["int8", "int8", "text", "int4", "int8", "int8", "bytea"]
_EVENT_TYPES = ["text", "text", "int4", "text", "text", "bytea", "timestamptz"]
_BESIDE_TYPES = ["int4", "int8", "int8", "bytea"]
_LAST = """
SELECT number, epoch, snapshot::text, first_position + count - 1
  FROM block WHERE scope = %s ORDER BY number DESC LIMIT 1
"""
# One statement, one snapshot: a block that is sealed meanwhile is seen with its positions or not at all.
_STRAYS = """
SELECT p.position FROM event_position p
 WHERE p.scope = %s AND (p.position < 1 OR p.position > %s)
   AND NOT EXISTS (SELECT FROM block b WHERE b.scope = p.scope AND b.number = p.block
                      AND p.position BETWEEN b.first_position AND b.first_position + b.count - 1)
 ORDER BY p.position LIMIT 20
"""
_COUNT = """
SELECT count(*) FILTER (WHERE due), count(*) FILTER (WHERE NOT due)
  FROM (SELECT epoch < %(epoch)s OR (epoch = %(epoch)s AND pg_visible_in_snapshot(xid, %(snapshot)s)) AS due
          FROM event WHERE scope = %(scope)s) counted
"""
_INTRUDERS = """
SELECT e.account_id, e.stream_id, e.version,
       (SELECT min(b.number) FROM block b WHERE b.scope = e.scope AND b.epoch = e.epoch
           AND pg_visible_in_snapshot(e.xid, b.snapshot))
  FROM event e
 WHERE e.scope = %(scope)s
   AND (e.epoch < %(epoch)s OR (e.epoch = %(epoch)s AND pg_visible_in_snapshot(e.xid, %(snapshot)s)))
   AND NOT EXISTS (SELECT FROM event_position p
                    WHERE p.scope = e.scope AND p.epoch = e.epoch AND p.xid = e.xid AND p.seq = e.seq)
 ORDER BY e.epoch, e.xid, e.seq LIMIT %(most)s
"""
# Each portion walks indexes; a plan that reads all events once a portion would take for ever.
_SETTINGS = (
    "SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_seqscan = off; SET timezone = 'UTC'"
)


def verify(
    connection: psycopg.Connection[Any],
    *,
    head: Head | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Verify all that is sealed when it begins. `connection`: in autocommit; its settings are changed.

    `progress` is called with the events verified and their number, now and then.
    """
    return _Verifier(connection, progress or _quiet).run(head)


def event_line(row: Row, *, scope: int = SCOPE) -> str:
    """The event as the line of JSON that its leaf is the hash of."""
    digest = "null" if row.payload_digest is None else f'"{row.payload_digest.hex()}"'
    return (
        f'{{"scope":{scope},"epoch":{row.epoch},"account_id":"{row.event_account_id}","stream_id":"{row.stream_id}",'
        f'"version":{row.version},"type":{json.dumps(row.type, ensure_ascii=False)},'
        f'"recorded_at":"{_moment(row.recorded_at)}","payload_digest":{digest},"data":{row.data}}}'
    )


def block_line(block: Block, *, scope: int = SCOPE) -> str:
    return (
        f'{{"scope":{scope},"number":{block.number},"epoch":{block.epoch},"snapshot":"{block.snapshot}",'
        f'"first_position":{block.first_position},"count":{block.count},"root":"{block.root.hex()}",'
        f'"previous":"{block.previous.hex()}","sealed_at":"{_moment(block.sealed_at)}"}}'
    )


def leaf_hash(line: str) -> bytes:
    return hashlib.sha256(b"\x00" + line.encode()).digest()


def merkle_root(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1: level by level, an odd last one rises as it is. At least one leaf."""
    level = leaves
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=False)
        above = [hashlib.sha256(b"\x01" + left + right).digest() for left, right in pairs]
        level = above + level[len(above) * 2 :]
    return level[0]


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _quiet(*_: int) -> None:
    pass


class _Verifier:
    def __init__(self, connection: psycopg.Connection[Any], progress: Callable[[int, int], None]) -> None:
        self.connection = connection
        self.progress = progress
        self.report = Report()

    def run(self, head: Head | None) -> Report:
        self.connection.execute(_SETTINGS)
        last = self.connection.execute(_LAST, [SCOPE]).fetchone()
        number, epoch, snapshot, total = last or (0, 0, "1:1:", 0)
        self.check_blocks(number, total, head)
        for (position,) in self.connection.execute(_STRAYS, [SCOPE, total]).fetchall():
            self.report.note(f"position {position}", "it was inserted: it lies in no block")
        self.check_count(epoch, snapshot)
        if head and head.number > number:
            self.report.note(
                f"block {head.number}", f"the history ends at block {number}: its end was cut off"
            )
        return self.report

    def check_blocks(self, last: int, total: int, head: Head | None) -> None:
        rows = _Rows(self.rows(total))
        before = Block(0, 0, "1:1:", 1, 0, b"", b"", NO_BLOCK, datetime.now(UTC))
        for block in self.blocks(last):
            self.check_block(block, before)
            if head and block.number == head.number and block.hash != head.hash:
                self.report.note(f"block {block.number}", f"the head noted for it was {head.hash.hex()}")
            self.check_events(block, before, rows)
            self.report.blocks += 1
            self.progress(self.report.events, total)
            before = block
        if before.number:
            self.report.head = Head(before.number, before.hash)

    def check_block(self, block: Block, before: Block) -> None:
        where = f"block {block.number}"
        if block.number != before.number + 1:
            self.report.note(where, f"block {before.number + 1} was removed")
        elif block.previous != before.hash:
            self.report.note(where, "it does not name the hash of the block before")
        if block.first_position != before.first_position + before.count:
            self.report.note(
                where, f"it begins at position {block.first_position}, not where the one before ends"
            )
        if hashlib.sha256(b"\x02" + block_line(block).encode()).digest() != block.hash:
            self.report.note(where, "its hash is not that of its content")
        if block.epoch < before.epoch:
            self.report.note(where, "its epoch is older than that of the block before")

    def check_events(self, block: Block, before: Block, rows: "_Rows") -> None:
        now = Snapshot.parse(block.snapshot)
        then = Snapshot.parse(before.snapshot if before.epoch == block.epoch else "1:1:")
        leaves: list[bytes] = []
        sound = True
        seq = 0
        for position in range(block.first_position, block.first_position + block.count):
            found = rows.take(position)
            fault = _fault(found, block, now, then, seq)
            if fault:
                self.report.note(f"position {position} (block {block.number})", fault)
                sound = False
            if found:
                leaves.append(found[0].leaf)
                seq = found[0].seq
                self.report.payloads += found[0].payload_hash is not None
            self.report.events += 1
        # A fault that is named already needs no second name.
        if sound and merkle_root(leaves) != block.root:
            self.report.note(f"block {block.number}", "its root is not that of its events")

    def check_count(self, epoch: int, snapshot: str) -> None:
        values = {"scope": SCOPE, "epoch": epoch, "snapshot": snapshot, "most": MOST_DAMAGES}
        with self.connection.transaction():
            self.connection.execute("SET LOCAL enable_seqscan = on; SET LOCAL enable_hashjoin = on")
            due, self.report.unsealed = self.connection.execute(_COUNT, values).fetchone() or (0, 0)
            # Equal numbers could hide one removed and one inserted, but the removed one was found before.
            if due == self.report.events and not self.report.damages:
                return
            for account, stream, version, number in self.connection.execute(_INTRUDERS, values).fetchall():
                self.report.note(
                    f"event {version} of stream {stream}, account {account}",
                    f"it was inserted: it would belong into block {number}, and stands in none",
                )
            if not self.report.damages:
                self.report.note("the whole", f"{due} events should be sealed, and {self.report.events} are")

    def blocks(self, last: int) -> Iterator[Block]:
        number = 0
        while number < last:
            found = self.connection.execute(_BLOCKS, [SCOPE, number]).fetchall()
            for row in found:
                block = Block(*row)
                if block.number > last:
                    return
                yield block
            number = found[-1][0]

    def rows(self, total: int) -> Iterator[Row]:
        """In portions, each a short transaction: what is sealed never changes; no old snapshot is held."""
        for first in range(1, total + 1, PORTION):
            with self.connection.cursor() as cursor:
                query = _ROWS % (SCOPE, first, min(first + PORTION - 1, total))
                with cursor.copy(query.encode()) as copy:
                    copy.set_types(_POSITION_TYPES + _EVENT_TYPES + _BESIDE_TYPES)
                    # Whole portions: between them the connection is free for the next blocks.
                    portion = [Row(*row) for row in copy.rows()]
            yield from portion


class _Rows:
    """The rows by ascending position; a position may have none (removed) or several (doubled)."""

    def __init__(self, rows: Iterator[Row]) -> None:
        self.rows = rows
        self.next = next(rows, None)

    def take(self, position: int) -> list[Row]:
        taken = []
        while self.next is not None and self.next.position <= position:
            if self.next.position == position:
                taken.append(self.next)
            self.next = next(self.rows, None)
        return taken


def _fault(found: list[Row], block: Block, now: Snapshot, then: Snapshot, seq: int) -> str | None:
    """What is wrong with this position? None: nothing."""
    if not found:
        return "the position was removed"
    row = found[0]
    if row.event_account_id is None:
        return "the event was removed"
    if len(found) > 1:
        return "two events stand at it: one was inserted"
    if leaf_hash(event_line(row)) != row.leaf:
        return "the event was changed"
    return _misplaced(row, block, now, then, seq) or _unlike_its_payload(row)


def _misplaced(row: Row, block: Block, now: Snapshot, then: Snapshot, seq: int) -> str | None:
    if row.block != block.number or row.epoch != block.epoch or row.account_id != row.event_account_id:
        return "the position names another block, epoch or account"
    if row.seq <= seq:
        return "the events were swapped: they are not in the order of seq"
    if not now.has(row.xid) or then.has(row.xid):
        return "the event belongs into another block"
    if row.version > 1:
        if row.prior_epoch is None:
            return f"version {row.version - 1} of its stream was removed"
        if row.prior_seq >= row.seq or (row.prior_epoch == row.epoch and not now.has(row.prior_xid)):
            return f"it stands before version {row.version - 1} of its stream"
    return None


def _unlike_its_payload(row: Row) -> str | None:
    if row.payload_hash is None or row.payload_hash == row.payload_digest:
        return None
    return "the payload was changed"
