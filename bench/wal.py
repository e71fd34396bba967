"""How much write-ahead log was written in between, and how much of it without the full page images?

PostgreSQL writes a page whole when it is first changed after a checkpoint, so the sum depends on when those
come. One is made before; those of the server's own settings come as ever. Records are counted by the server;
`pg_waldump` tells how long one is without images, by the log that no checkpoint has thrown away yet.
"""

import subprocess
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


class Wal:
    """A context. After it: `bytes` in all, those `without_images`, and the `checkpoints` in between."""

    def __init__(self, deployment: Deployment) -> None:
        (self._server,) = deployment.kinds()["postgres"]
        self._sql = deployment.sql(role=keeper.SUPERUSER)
        self.bytes = self.without_images = self.checkpoints = 0.0

    def __enter__(self) -> Self:
        self._sql.execute("CHECKPOINT")
        self._before = self._state()
        return self

    def __exit__(self, *_: object) -> None:
        with self._sql:
            end, records, done = self._state()
            began, records_before, done_before = self._before
            self.bytes = float(end - began)
            self.without_images = (records - records_before) * self._record_bytes(began)
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


def waldump(server: psutil.Process, since: str, until: str) -> str:
    program = Path(server.exe()).with_name("pg_waldump")
    done = subprocess.run(
        [program, "--stats", "--path", Path(server.cwd()) / "pg_wal", "--start", since, "--end", until],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Wrong(f"pg_waldump: {done.stderr}")
    return done.stdout
