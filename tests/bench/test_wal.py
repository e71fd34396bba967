"""Whose is a record of the write-ahead log?"""

import pytest

from bench import wal

OWNERS = {"16401": "event", "16402": "event", "16410": "delivery_log_v1", "16420": "payload"}
HEAP = "rmgr: Heap        len (rec/tot):    100/   8300, tx: 7, lsn: 0/1, prev 0/0, desc: INSERT off: 1, "
BTREE = (
    "rmgr: Btree       len (rec/tot):     60/    60, tx: 7, lsn: 0/1, prev 0/0, desc: INSERT_LEAF off: 9, "
)
COMMIT = "rmgr: Transaction len (rec/tot):     40/    40, tx: 7, lsn: 0/1, prev 0/0, desc: COMMIT 2026-01-01"


def test_indexes_count_for_their_table_and_images_not_at_all() -> None:
    found = wal.shares(
        [
            f"{HEAP}blkref #0: rel 1663/5/16401 blk 0 FPW",
            f"{BTREE}blkref #0: rel 1663/5/16402 blk 1",
            f"{HEAP}blkref #0: rel 1663/5/16420 blk 0",
            f"{BTREE}blkref #0: rel 1663/5/16410 blk 0",
            COMMIT,
            f"{BTREE}blkref #0: rel 1663/5/999 blk 0",
            "not a record",
        ],
        OWNERS,
    )

    assert found == pytest.approx(
        {k: v / 420 for k, v in {"history": 160, "payload": 100, "log": 60, "rest": 100}.items()}
    )


def test_no_records_have_no_shares() -> None:
    assert wal.shares([], OWNERS) == {}
