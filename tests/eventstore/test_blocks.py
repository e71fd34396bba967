"""Blocks hold every committed event once, whoever commits late, and nobody waits for anybody."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta
from uuid import uuid4

import psycopg
import pytest

from eventstore import blocks, connections
from tests.databases import Database
from tests.eventstore import stores


def streams(connection: stores.Connection) -> list:
    return [stream for _, _, stream, _ in stores.history(connection)]


def test_nothing_new_makes_no_block(database: Database):
    connection = database.connect()
    assert stores.seal(connection) is None
    stores.append(connection)
    assert stores.seal(connection) == 1
    assert stores.seal(connection) is None


def test_blocks_keep_a_distance_when_asked_to(database: Database):
    connection = database.connect()
    seal = "SELECT pusher.seal(0::smallint, 10000, %s)"
    stores.append(connection)
    assert stores.number(connection, seal, timedelta(minutes=1)) == 1  # before the first there is none
    stores.append(connection)
    assert connection.execute(seal, [timedelta(minutes=1)]).fetchone() == (None,)
    assert connection.execute(seal, [timedelta(0)]).fetchone() == (2,)


def test_a_block_from_the_future_keeps_no_distance(database: Database):
    connection = database.connect()
    stores.append(connection)
    stores.seal(connection)
    connection.execute(
        "INSERT INTO block SELECT scope, 2, epoch, snapshot, first_position, count, root, hash, hash,"
        " now() + interval '1 hour' FROM block"
    )
    stores.append(connection)
    assert stores.number(connection, "SELECT pusher.seal(0::smallint, 10000, interval '1 minute')") == 3


def test_commit_order_inverted_loses_nothing(database: Database):
    early, late, sealer = database.connect(autocommit=False), database.connect(), database.connect()
    first, second, third = uuid4(), uuid4(), uuid4()
    stores.append(early, first)  # has the lower xid and seq, and commits last
    stores.append(late, second)
    assert stores.seal(sealer) == 1
    assert streams(sealer) == [second]
    stores.append(late, third)
    assert stores.seal(sealer) == 2
    early.commit()
    assert stores.seal(sealer) == 3
    assert streams(sealer) == [second, third, first]


def test_a_foreign_transaction_held_open_delays_nobody(database: Database):
    foreign, writer, sealer = database.connect(autocommit=False), database.connect(), database.connect()
    foreign.execute("SELECT pg_current_xact_id()")
    written = [uuid4() for _ in range(5)]
    for expected, stream in enumerate(written, start=1):
        stores.append(writer, stream)
        assert stores.seal(sealer) == expected
    assert streams(sealer) == written


def test_rolled_back_events_and_savepoints_are_never_seen(database: Database):
    writer, sealer = database.connect(autocommit=False), database.connect()
    kept, lost = uuid4(), uuid4()
    stores.append(writer, lost)
    writer.rollback()
    writer.execute("SAVEPOINT one")
    stores.append(writer, lost)
    writer.execute("ROLLBACK TO one")
    writer.execute("SAVEPOINT two")
    stores.append(writer, kept)  # by a subtransaction: the event names the whole transaction
    assert stores.seal(sealer) is None
    writer.commit()
    assert stores.seal(sealer) == 1
    assert streams(sealer) == [kept]


def test_a_backlog_is_cut_into_blocks(database: Database):
    connection = database.connect()
    written = [uuid4() for _ in range(25)]
    for stream in written:
        stores.append(connection, stream)
    assert stores.seal_all(connection, most=10) == 3
    assert [row[0] for row in connection.execute("SELECT count FROM block ORDER BY number")] == [10, 10, 5]
    assert streams(connection) == written


def test_a_transaction_larger_than_a_block_stays_whole(database: Database):
    connection = database.connect()
    stores.append(connection)
    stores.append(connection, count=30)
    stores.append(connection)
    assert stores.seal_all(connection, most=10) == 3
    assert [row[0] for row in connection.execute("SELECT count FROM block ORDER BY number")] == [1, 30, 1]


def test_the_late_ones_come_first_when_a_backlog_is_cut(database: Database):
    late, writer = database.connect(autocommit=False), database.connect()
    stores.append(late, count=7)
    stores.append(writer)
    assert stores.seal(writer) == 1
    for _ in range(4):
        stores.append(writer)
    late.commit()
    assert stores.seal_all(writer, most=5) == 2
    rows = writer.execute("SELECT count FROM block ORDER BY number").fetchall()
    assert rows == [(1,), (7,), (4,)]  # all the late ones, and none of the new: they are over the limit


def test_a_cut_keeps_what_was_in_progress_below_it(database: Database):
    late, writer = database.connect(autocommit=False), database.connect()
    for _ in range(3):
        stores.append(writer)
    held = uuid4()
    stores.append(late, held)
    for _ in range(9):
        stores.append(writer)
    for _ in range(2):
        assert stores.seal(writer, 5)
    late.commit()
    assert stores.seal_all(writer, most=5)
    assert len(streams(writer)) == 13
    assert streams(writer).count(held) == 1


def test_versions_of_a_stream_stand_in_order(database: Database):
    first, second = database.connect(autocommit=False), database.connect(autocommit=False)
    stream = uuid4()
    # The second has its transaction id first, and appends last: only seq tells.
    second.execute("SELECT pg_current_xact_id()")
    stores.append(first, stream)
    first.commit()
    stores.append(second, stream)
    second.commit()
    sealer = database.connect()
    stores.seal_all(sealer)
    assert [version for *_, version in stores.history(sealer)] == [1, 2]


@pytest.mark.parametrize("is_late", [False, True], ids=["new", "late"])
def test_versions_of_a_stream_stand_in_order_when_a_backlog_is_cut(database: Database, is_late):
    """Who locks what the stream is about gets a transaction id, and waits: the others' ids are higher."""
    waiting = [database.connect(autocommit=False) for _ in range(3)]
    writer = database.connect()
    for connection in waiting:
        connection.execute("SELECT pg_current_xact_id()")
    if is_late:
        stores.append(writer)
        stores.seal(writer)
    stream = uuid4()
    for connection in reversed(waiting):
        stores.append(writer, stream)
        stores.append(connection, stream)
        connection.commit()
    stores.append(writer, count=3)
    stores.seal_all(writer, most=1)
    history = stores.history(writer)
    assert [version for *_, name, version in history if name == stream] == [1, 2, 3, 4, 5, 6]
    assert len(history) == 9 + is_late


def test_two_sealers_at_once_make_one_block(database: Database):
    first, second = database.connect(autocommit=False), database.connect()
    stores.append(second)
    assert stores.seal(first) == 1  # not committed yet
    assert stores.seal(second) is None
    first.commit()
    assert stores.seal(second) is None
    assert stores.number(second, "SELECT count(*) FROM block") == 1


def test_the_primary_key_decides_where_the_lock_does_not(database: Database):
    """As if the advisory lock were not there: the loser ends in NULL, and leaves nothing."""
    first, second = database.connect(autocommit=False), database.connect()
    stores.append(second)
    block = "(SELECT b FROM block b WHERE false)"
    seal_next = f"SELECT pusher.seal_next(0::smallint, 1, {block}, '1:1:', pg_current_snapshot(), 10)"
    assert stores.number(first, seal_next) == 1
    answers: list = []
    loser = threading.Thread(target=lambda: answers.append(stores.number(second, seal_next)))
    loser.start()
    time.sleep(0.2)
    assert not answers  # it waits for the other's row
    first.commit()
    loser.join()
    assert answers == [None]
    assert len(stores.history(first)) == 1


def test_one_snapshot_for_all_statements_is_refused(database: Database):
    connection = database.connect()
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    connection.autocommit = False
    with pytest.raises(psycopg.errors.RaiseException, match="READ COMMITTED"):
        stores.seal(connection)


def test_sealing_in_a_transaction_is_refused(database: Database):
    async def attempt() -> None:
        async with await connections.connect() as connection, connection.transaction():
            await blocks.seal(connection)

    with pytest.raises(RuntimeError, match="autocommit"):
        asyncio.run(attempt())


def test_the_front_door_seals(database: Database):
    async def seal() -> list[int | None]:
        async with await connections.connect() as connection:
            return [await blocks.seal(connection, most=2) for _ in range(3)]

    connection = database.connect()
    for _ in range(4):
        stores.append(connection)
    assert asyncio.run(seal()) == [1, 2, None]
    stores.append(connection)
    assert blocks.seal_all() == 1


# Sends the statement, and is stopped before it reads the answer.
STOPS = """
import os, signal, sys
import psycopg
connection = psycopg.connect(sys.argv[1], autocommit=True)
connection.pgconn.send_query_params(sys.argv[2].encode(), None)
connection.pgconn.flush()
os.kill(os.getpid(), signal.SIGSTOP)
"""


def stopped(database: Database, statement: str) -> subprocess.Popen:
    """A process that is stopped by SIGSTOP right after it has sent a statement."""
    process = subprocess.Popen([sys.executable, "-c", STOPS, database.url, statement])
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    return process


@pytest.mark.parametrize(
    ("statement", "go_on"),
    [
        ("SELECT pusher.seal(0::smallint, 10000)", stores.seal),
        ("SELECT pusher.project('delivery_log', 100)", stores.project),
    ],
    ids=["sealer", "projector"],
)
def test_one_that_is_stopped_holds_nobody_up(database: Database, statement, go_on):
    connection = database.connect(options="-c lock_timeout=1s -c statement_timeout=5s")
    stores.append(connection, count=100)
    if go_on is stores.project:
        stores.seal_all(connection)
    process = stopped(database, statement)
    try:
        stores.append(connection)
        if go_on is stores.project:
            stores.seal_all(connection)
        deadline = time.monotonic() + 5
        while not all_done(connection, go_on):
            assert time.monotonic() < deadline
            go_on(connection)  # None or 0 while the stopped one's statement still runs in the server
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert len(stores.history(connection)) == 101


CHECKPOINT = "SELECT block FROM projection_checkpoint WHERE name = 'delivery_log'"


def all_done(connection: stores.Connection, go_on) -> bool:
    if go_on is stores.seal:
        return stores.number(connection, "SELECT count(*) FROM event_position") == 101
    last = stores.number(connection, "SELECT max(number) FROM block")
    return stores.number(connection, CHECKPOINT) == last


def test_ten_thousand_leaves_take_well_under_a_tenth_of_a_second(database: Database):
    connection = database.connect()
    query = """
        SELECT length(pusher.merkle_root(array_agg(sha256(i::text::bytea)))) FROM generate_series(1, 10000) i
    """
    took = []
    for _ in range(5):
        began = time.perf_counter()
        assert stores.number(connection, query) == 32
        took.append(time.perf_counter() - began)
    assert min(took) < 0.1
