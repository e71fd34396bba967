"""Whatever transactions do at once, each committed event is in one block, and streams are in order."""

import random
import threading
import time
from itertools import pairwise
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from eventstore import verify
from tests.databases import Database
from tests.eventstore import stores

SESSIONS = 4
STREAMS = 3
session = st.integers(0, SESSIONS - 1)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), session, st.integers(0, STREAMS - 1)),
        st.tuples(st.just("burst"), session, st.integers(1, 12)),
        st.tuples(st.just("savepoint"), session, st.just(0)),
        st.tuples(st.just("roll back to it"), session, st.just(0)),
        st.tuples(st.just("take an id"), session, st.just(0)),  # a foreign transaction that is held open
        st.tuples(st.just("commit"), session, st.just(0)),
        st.tuples(st.just("roll back"), session, st.just(0)),
        st.tuples(st.just("seal"), st.just(0), st.integers(1, 8)),
    ),
    max_size=40,
)


class Sessions:
    """Transactions side by side, and what each of them would leave if it committed now."""

    def __init__(self, database: Database) -> None:
        self.connections = [database.connect(autocommit=False) for _ in range(SESSIONS)]
        self.sealer = database.connect()
        self.streams = [uuid4() for _ in range(STREAMS)]
        self.written: list[list[UUID]] = [[] for _ in range(SESSIONS)]
        self.saved: list[int | None] = [None] * SESSIONS
        self.committed: list[UUID] = []

    def do(self, step: str, who: int, what: int) -> None:
        connection = self.connections[who]
        match step:
            case "append":
                self.append(who, self.streams[what])
            case "burst":
                fresh = [uuid4() for _ in range(what)]
                stores.append(connection, *fresh)
                self.written[who] += fresh
            case "savepoint":
                connection.execute("SAVEPOINT mark")
                self.saved[who] = len(self.written[who])
            case "roll back to it" if self.saved[who] is not None:
                connection.execute("ROLLBACK TO mark")
                del self.written[who][self.saved[who] :]
            case "take an id":
                connection.execute("SELECT pg_current_xact_id()")
            case "commit":
                connection.commit()
                self.committed += self.written[who]
                self.forget(who)
            case "roll back":
                connection.rollback()
                self.forget(who)
            case "seal":
                stores.seal(self.sealer, what)

    def append(self, who: int, stream: UUID) -> None:
        # The lock of the thing that the stream is about; whoever doesn't get it does something else.
        key = stream.int & (2**62 - 1)
        if stores.number(self.connections[who], "SELECT pg_try_advisory_xact_lock(%s)", key):
            stores.append(self.connections[who], stream)
            self.written[who].append(stream)

    def forget(self, who: int) -> None:
        self.written[who], self.saved[who] = [], None

    def end(self) -> None:
        for who in range(SESSIONS):
            self.do("commit", who, 0)

    def close(self) -> None:
        for connection in [*self.connections, self.sealer]:
            connection.close()


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps, most=st.integers(1, 10))
@example(
    steps=[
        ("append", 0, 0),
        ("burst", 1, 9),
        ("commit", 1, 0),
        ("seal", 0, 4),
        ("burst", 2, 9),
        ("commit", 2, 0),
        ("seal", 0, 4),
        ("commit", 0, 0),
    ],
    most=2,
)
@example(
    steps=[
        ("take an id", 0, 0),
        ("append", 1, 0),
        ("commit", 1, 0),
        ("append", 0, 0),
    ],
    most=1,
)
def test_every_committed_event_is_in_one_block(database: Database, steps, most):
    sessions = Sessions(database)
    try:
        before = stores.number(sessions.sealer, "SELECT coalesce(max(position), 0) FROM event_position")
        for step in steps:
            sessions.do(*step)
        sessions.end()
        stores.seal_all(sessions.sealer, most)
        rows = stores.history(sessions.sealer, after=before)
        assert [position for position, *_ in rows] == list(range(before + 1, before + 1 + len(rows)))
        assert sorted(stream for *_, stream, _ in rows) == sorted(sessions.committed)
        for stream in sessions.streams:
            versions = [version for *_, name, version in rows if name == stream]
            assert versions == list(range(1, len(versions) + 1))
        assert verify.verify(sessions.sealer).damages == []
    finally:
        sessions.close()


@pytest.mark.slow
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_truncated_snapshots_are_disjoint_and_complete(database: Database, data):
    """Seen through snapshots cut at any places, each transaction is between exactly two of them."""
    xmin = data.draw(st.integers(3, 20))
    xmax = xmin + data.draw(st.integers(0, 20))
    running = sorted(data.draw(st.sets(st.integers(xmin, max(xmin, xmax - 1)))) if xmax > xmin else [])
    cuts = sorted(data.draw(st.lists(st.integers(1, xmax), max_size=5)))
    whole = f"{xmin}:{xmax}:{','.join(map(str, running))}"
    connection = database.connect()
    try:
        truncated = [
            stores.number(connection, "SELECT pusher.truncated(%s, %s::text::xid8)::text", whole, cut)
            for cut in cuts
        ]
    finally:
        connection.close()
    snapshots = [verify.Snapshot.parse(text) for text in ["1:1:", *truncated, whole]]
    for xid in range(1, xmax + 3):
        between = [now.has(xid) and not then.has(xid) for then, now in pairwise(snapshots)]
        assert sum(between) == snapshots[-1].has(xid)
        assert not any(then.has(xid) and not now.has(xid) for then, now in pairwise(snapshots))


@pytest.mark.slow
def test_writers_and_sealers_all_at_once(database: Database):
    """Six writers that pause, roll back and share streams, three sealers, a transaction held open."""
    until = time.monotonic() + 2
    streams = [uuid4() for _ in range(5)]
    committed: list[int] = []
    foreign = database.connect(autocommit=False)
    foreign.execute("SELECT pg_current_xact_id()")

    def write(seed: int) -> None:
        randomly = random.Random(seed)  # noqa: S311 - a seed, no secret
        connection = database.connect(autocommit=False)
        while time.monotonic() < until:
            count = randomly.randint(0, 5)
            stores.append(connection, count=count) if count else append_locked(connection, randomly)
            if randomly.random() < 0.2:
                time.sleep(randomly.random() / 50)
            if randomly.random() < 0.2:
                connection.rollback()
            else:
                connection.commit()
                committed.append(count or 1)

    def append_locked(connection: stores.Connection, randomly: random.Random) -> None:
        stream = randomly.choice(streams)
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [streams.index(stream)])
        stores.append(connection, stream)

    def seal(most: int) -> None:
        connection = database.connect()
        while time.monotonic() < until:
            stores.seal(connection, most)

    threads = [threading.Thread(target=write, args=[seed]) for seed in range(6)]
    threads += [threading.Thread(target=seal, args=[most]) for most in (3, 10, 10_000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    connection = database.connect()
    stores.seal_all(connection)
    report = verify.verify(connection)
    assert report.damages == []
    assert (report.events, report.unsealed) == (sum(committed), 0)
    assert report.blocks > 10
