"""Where do claims begin? Only the reading of the marks walks what an old snapshot keeps in the index."""

import asyncio
import threading
import time
from datetime import timedelta

import pytest

from eventstore import connections
from outbox import claims, worker
from outbox.worker import loop
from tests.outbox import people
from tests.outbox.workers import Alice
from tests.receivers import Answer

DEAD = 5_000
WARM_UP = 2
FILL = """
INSERT INTO outbox (account_id, delivery_id, event_id, destination_id, epoch, size, due_at, held)
SELECT account_id, gen_random_uuid(), event_id, %s, 1, 2, clock_timestamp() + %s, %s
  FROM outbox, generate_series(1, %s) LIMIT %s
"""
CLAIM = "SELECT * FROM pusher.claim(0::smallint, 10, 1000000, '1 minute', %b, %s, true)"
FIND = "SELECT * FROM pusher.find_marks('{}', NULL, %s)"
TEND = "SELECT released FROM pusher.tend('00000000-0000-0000-0000-000000000000', 1000, '1 minute', %s)"
CROWD = "SELECT pusher.crowd(%b, 1000, 5000, %s)"
A_CLAIM = 40  # blocks, of which the empty one reads some
NOW = timedelta(0)


@pytest.fixture
def alice(database):
    return people.account(limit=1000, destinations=2)


def find(busy=(), after=None, under_way=None):
    async def ask():
        async with await connections.connect() as connection:
            return await claims.find_marks(connection, busy=busy, under_way=under_way, after=after)

    return asyncio.run(ask())


def claim(since, busy=()):
    async def ask():
        async with await connections.connect() as connection:
            return await claims.claim(connection, rows=100, size=1 << 30, busy=busy, since=since)

    return asyncio.run(ask()).claims


def fill(sql, destination, many=1, *, due=NOW, held=False):
    sql.execute(FILL, [destination, due, held, many, many])


@pytest.fixture
def pinned(alice, database, sql):
    """An old row of the first destination; then thousands that came and went, seen by an old snapshot."""
    people.events(alice, ["1"])
    first, second = alice.destinations
    with database.connect(autocommit=False) as old:
        sql.execute("DELETE FROM outbox WHERE destination_id = %s", [second])
        sql.execute("UPDATE outbox SET due_at = clock_timestamp() - interval '1 hour'")
        for destination in (first, second):
            fill(sql, destination, DEAD, due=-timedelta(minutes=30))
        old.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        old.execute("SELECT FROM outbox")
        sql.execute("DELETE FROM outbox WHERE due_at > clock_timestamp() - interval '45 minutes'")
        yield sql


def touched(sql, statement, values):
    """Blocks; the first time loads the function and plans its statements."""
    for _ in range(WARM_UP):
        sql.execute("BEGIN")
        ((plan,),) = sql.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", values).fetchall()
        sql.execute("ROLLBACK")
    return plan[0]["Plan"]["Shared Hit Blocks"] + plan[0]["Plan"]["Shared Read Blocks"]


def test_a_claim_walks_nothing_also_while_a_destination_is_passed_over(alice, pinned):
    busy, _ = alice.destinations
    marks = find([busy])
    before = touched(pinned, CLAIM, [[busy], None])
    after = touched(pinned, CLAIM, [[busy], marks.since([busy])])
    assert before > 5 * A_CLAIM  # or the snapshot keeps nothing
    assert after < A_CLAIM
    assert touched(pinned, CLAIM, [[busy], marks.since([])]) > 5 * A_CLAIM  # it looks for that one's rows
    assert len(claim(marks.since([]))) == 1


def test_tending_and_holding_count_what_is_ready_and_walk_nothing(alice, pinned):
    _, other = alice.destinations
    fill(pinned, other, held=True)
    fill(pinned, other, 1100)
    pinned.execute("DELETE FROM outbox WHERE destination_id <> %s", [other])
    since = find().since([])
    assert touched(pinned, TEND, [None]) > touched(pinned, TEND, [since]) + A_CLAIM
    assert touched(pinned, CROWD, [[other], None]) > touched(pinned, CROWD, [[other], since]) + A_CLAIM
    assert pinned.execute(TEND, [since]).fetchone()[0] == 0  # enough is ready
    assert pinned.execute(CROWD, [[other], since]).fetchone()[0] == 100
    pinned.execute("DELETE FROM outbox WHERE NOT held")
    assert pinned.execute(TEND, [since]).fetchone()[0] == 101


def test_the_marks_are_the_oldest_that_is_due(alice, sql):
    first, second = alice.destinations
    before = find()
    assert before.oldest == before.oldest_free  # nothing: it is now
    people.events(alice, ["1"])
    oldest = "SELECT min(due_at) FROM outbox WHERE destination_id = %s"
    sql.execute("UPDATE outbox SET due_at = due_at - interval '1 hour' WHERE destination_id = %s", [first])
    marks = find([first])
    assert marks.oldest == sql.execute(oldest, [first]).fetchone()[0] - claims.LATE_COMMIT
    assert marks.oldest_free == sql.execute(oldest, [second]).fetchone()[0] - claims.LATE_COMMIT
    sql.execute("UPDATE outbox SET lapses = 2 WHERE destination_id = %s", [first])
    assert find().oldest == marks.oldest_free  # claims find a suspect apart
    sql.execute("UPDATE outbox SET due_at = clock_timestamp() + interval '1 hour'")
    now = sql.execute("SELECT clock_timestamp()").fetchone()[0]
    assert (
        now - claims.LATE_COMMIT < find().oldest < now + timedelta(seconds=5)
    )  # what comes next is hidden by none


def test_a_newcomer_is_the_oldest_that_nothing_is_sent_to(alice, sql):
    first, second = alice.destinations
    assert find(under_way=[]).newcomer is None
    people.events(alice, ["1"])
    oldest = "SELECT min(due_at) FROM outbox WHERE destination_id = %s"
    sql.execute("UPDATE outbox SET due_at = due_at - interval '1 hour' WHERE destination_id = %s", [first])
    assert find().newcomer is None  # nobody asked
    for busy in ([], [first]):
        marks = find(busy, under_way=[first])
        assert marks.newcomer == sql.execute(oldest, [second]).fetchone()[0] - claims.LATE_COMMIT
    assert find(under_way=[]).newcomer == sql.execute(oldest, [first]).fetchone()[0] - claims.LATE_COMMIT
    assert find(under_way=[first, second]).newcomer is None


def test_from_marks_on_it_goes_by_what_died_since_and_sees_what_they_saw(alice, pinned):
    first, second = alice.destinations
    fill(pinned, second, 2, due=-timedelta(minutes=1))
    pinned.execute("DELETE FROM outbox WHERE due_at < clock_timestamp() - interval '2 minutes'")
    marks = find()
    assert touched(pinned, FIND, [None]) > 5 * A_CLAIM
    assert touched(pinned, FIND, [marks.oldest]) < A_CLAIM
    assert find(after=marks).oldest == marks.oldest
    pinned.execute("DELETE FROM outbox WHERE due_at = (SELECT max(due_at) FROM outbox)")
    fill(pinned, first, due=-timedelta(seconds=30))
    later = find([second], after=marks)
    assert later.oldest == marks.oldest
    assert later.oldest_free > marks.oldest
    whole = find([second])
    assert (later.oldest, later.oldest_free) == (whole.oldest, whole.oldest_free)


def test_what_marks_did_not_see_is_seen_by_the_next_reading_from_the_start(alice, sql):
    first, _ = alice.destinations
    people.events(alice, ["1"])
    marks = find()
    sql.execute("UPDATE outbox SET due_at = due_at - interval '1 hour' WHERE destination_id = %s", [first])
    assert find(after=marks).oldest >= marks.oldest
    assert find().oldest < marks.oldest


# --- In a drain


@pytest.fixture
def sender(database, settings):
    settings.DESTINATION_ALLOW = ["127.0.0.0/8"]
    return Alice()


@pytest.mark.slow
def test_older_rows_of_a_destination_go_as_soon_as_it_has_room(sender, receiver, monkeypatch):
    """Also if no mark is read after one that was read while it was passed over."""
    read = claims.find_marks
    while_busy = []

    async def once_while_busy(connection, *, busy, under_way=None, after=None):
        if while_busy:
            await asyncio.sleep(60)
        while_busy.extend(busy)
        return await read(connection, busy=busy)

    monkeypatch.setattr(claims, "find_marks", once_while_busy)
    monkeypatch.setattr(loop, "POLL_SECONDS", 0.5)
    receiver.on("/slow", Answer(delay=0.8))
    sender.sends_to(receiver.url("/slow"), timeout=2)
    sender.posts(*map(str, range(14)))
    worker.drain(slot=0, seconds=4.0, hand_over=lambda: None)
    assert while_busy
    assert len({seen.headers["cl-x-event-id"] for seen in receiver.seen}) == 14


@pytest.mark.slow
def test_what_commits_late_is_sent_within_about_a_second(sender, receiver, database):
    sender.sends_to(receiver.url("/hook"))
    committed = []

    def commit_late():
        connection = database.connect(autocommit=False)
        connection.execute(*people.accepting(sender, ["late"]), binary=True)
        time.sleep(2.0)  # marks are read meanwhile, above it
        connection.commit()
        committed.append(time.monotonic())

    receiver.on("/hook", Answer())
    late = threading.Thread(target=commit_late)
    late.start()
    worker.drain(slot=0, seconds=3.7, hand_over=lambda: None)
    late.join()
    assert [seen.headers["cl-x-event-id"] for seen in receiver.seen] == ["late"]
