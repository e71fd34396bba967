"""How much write-ahead log was written in between, and how much of it without the full page images?

PostgreSQL writes a page whole when it is first changed after a checkpoint, so the sum depends on when those
come. One is made before; those of the server's own settings come as ever. Records are counted by the server;
`pg_waldump` tells how long one is without images, by the log that no checkpoint has thrown away yet.
"""

import collections
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import psutil

from bench.deployment import Deployment
from bench.run import Wrong
from config import keeper

STATE = """
SELECT pg_current_wal_lsn() - '0/0', wal_records::float, num_done::float
  FROM pg_stat_wal, pg_stat_checkpointer
"""
# Not from further back than the beginning.
KEPT = """
SELECT greatest(redo_lsn, '0/0'::pg_lsn + %s)::text, pg_current_wal_lsn()::text FROM pg_control_checkpoint()
"""


# Whose a file is, by its number: a table's own, and its indexes'.
OWNERS = """
SELECT pg_relation_filenode(c.oid)::text, coalesce(t.relname, c.relname)
  FROM pg_class c LEFT JOIN pg_index i ON i.indexrelid = c.oid LEFT JOIN pg_class t ON t.oid = i.indrelid
 WHERE pg_relation_filenode(c.oid) IS NOT NULL
"""
SAMPLE_BYTES = 64 << 20  # of the end: reading all of it would take as long as writing it did
GROUPS = {
    "history": ("event", "event_key", "event_position", "block"),
    "payload": ("payload",),
    "outbox": ("outbox", "gate", "admission", "lane", "slot"),
    "log": ("delivery_log", "delivery_total", "projection_checkpoint"),
}
RECORD = re.compile(r"len \(rec/tot\): +(\d+)/")
RELATION = re.compile(r"blkref #0: rel \d+/\d+/(\d+)")


class Wal:
    """A context. After it: `bytes` in all, those `without_images`, and the `checkpoints` in between.

    `records` in all, and `shares`: of the bytes without images, by GROUPS of tables with their indexes.
    """

    def __init__(self, deployment: Deployment) -> None:
        (self._server,) = deployment.kinds()["postgres"]
        self._sql = deployment.sql(role=keeper.SUPERUSER)
        self.bytes = self.without_images = self.checkpoints = self.records = 0.0
        self.shares: Mapping[str, float] = {}

    def __enter__(self) -> Self:
        self._sql.execute("CHECKPOINT")
        self._before = self._state()
        return self

    def __exit__(self, *_: object) -> None:
        with self._sql:
            end, records, done = self._state()
            began, records_before, done_before = self._before
            self.bytes = float(end - began)
            self.records = records - records_before
            self.without_images = self.records * self._record_bytes(began)
            self.shares = self._shares(began, end)
            self.checkpoints = done - done_before

    def _state(self) -> tuple[Any, float, float]:
        ((lsn, records, checkpoints),) = self._sql.execute(STATE).fetchall()
        return lsn, records, checkpoints

    def _record_bytes(self, began: Any) -> float:
        ((since, until),) = self._sql.execute(KEPT, [began]).fetchall()
        told = waldump(self._server, since, until)
        # Total  records  bytes of records [..]  bytes of images [..]  both [..]
        words = next(line for line in told.splitlines() if line.startswith("Total")).split()
        return float(words[2]) / float(words[1])

    def _shares(self, began: Any, end: Any) -> Mapping[str, float]:
        owners = dict(self._sql.execute(OWNERS).fetchall())
        ((since, until),) = self._sql.execute(KEPT, [max(began, end - SAMPLE_BYTES)]).fetchall()
        return shares(records(self._server, since, until), owners)


def shares(records: Iterable[str], owners: Mapping[str, str]) -> dict[str, float]:
    """Of the bytes of records, as pg_waldump prints them, by group of the tables that they change."""
    sizes: collections.Counter[str] = collections.Counter()
    for record in records:
        size, relation = RECORD.search(record), RELATION.search(record)
        if size is not None:
            table = owners.get(relation[1], "") if relation is not None else ""
            sizes[_group(table)] += int(size[1])
    total = sizes.total() or 1
    return {group: size / total for group, size in sizes.most_common()}


def _group(table: str) -> str:
    plain = re.sub(r"_v\d+$", "", table)  # a projection's versions are its partitions
    return next((group for group, tables in GROUPS.items() if plain in tables), "rest")


def records(server: psutil.Process, since: str, until: str) -> Iterator[str]:
    """One line each. What a beginning in the middle of a record says on the error output is of no matter."""
    with subprocess.Popen(
        _waldump(server, since, until), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as told:
        assert told.stdout is not None  # noqa: S101 - for the type checker
        yield from told.stdout


def waldump(server: psutil.Process, since: str, until: str) -> str:
    done = subprocess.run(
        _waldump(server, since, until, "--stats"), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Wrong(f"pg_waldump: {done.stderr}")
    return done.stdout


def _waldump(server: psutil.Process, since: str, until: str, *options: str) -> list[str | Path]:
    program = Path(server.exe()).with_name("pg_waldump")
    return [program, *options, "--path", Path(server.cwd()) / "pg_wal", "--start", since, "--end", until]
