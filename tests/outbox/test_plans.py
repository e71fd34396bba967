"""No statement of the outbox slows down as it grows, also when it was planned while it was small.

Counted, not timed: what each call reads of each table, by the server's own counters of the transaction.
"""

import re
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from django.conf import settings

from eventstore.identifiers import uuid7
from tests.outbox import people

SQL = Path(settings.BASE_DIR) / "outbox" / "sql"
LEASE = timedelta(seconds=60)
NO_CIRCUIT = [10**6, 10**6, 100, 5, 300]
WARM_UP = 8  # over the 5 executions after which PostgreSQL keeps a plan
FILL = """
INSERT INTO outbox (account_id, delivery_id, event_id, destination_id, epoch, size, due_at, held)
SELECT %(account)s, gen_random_uuid(), %(event)s, %(destination)s, 1, 2,
       clock_timestamp() - interval '1 hour' + n * interval '1 millisecond', %(held)s
  FROM generate_series(1, %(many)s) AS n
"""


class Session:
    """One session, whose plans live from the first call to the last."""

    def __init__(self, connection):
        self.connection = connection

    def claim(self, rows, busy=()):
        return self.connection.execute(
            "SELECT * FROM pusher.claim(0::smallint, %s, %s, %s, %b, NULL, true)",
            [rows, 1 << 30, LEASE, list(busy)],
            prepare=True,
        ).fetchall()

    def settle(self, rows, verdict="succeeded"):
        columns = list(zip(*rows, strict=True))
        data = [
            f'{{"attempt": {attempt}, "event": "{event}", "destination": "{destination}", "reason": "x"}}'
            for event, destination, attempt in zip(*columns[2:5], strict=True)
        ]
        self.connection.execute(
            "SELECT * FROM pusher.settle(0::smallint, %b, %b, %b, %b, %s, %b, %s::jsonb[], %s, %b)",
            [
                *map(list, (columns[0], columns[1], columns[6], columns[4])),
                [verdict] * len(rows),
                [0] * len(rows),
                data,
                [True] * len(rows),
                NO_CIRCUIT,
            ],
            prepare=True,
        )

    def counted(self, work):
        """What `work` read, as (sequential scans, rows fetched by index) over our hot tables."""
        with self.connection.transaction():
            before = self._counters()
            work()
            after = self._counters()
        return tuple(late - early for early, late in zip(before, after, strict=True))

    def _counters(self):
        return self.connection.execute(
            "SELECT sum(seq_scan)::int, sum(idx_tup_fetch)::int FROM pg_stat_xact_user_tables"
            " WHERE relname IN ('outbox', 'event', 'payload', 'event_key', 'gate', 'admission', 'lane')"
        ).fetchone()


def fill(database, account, event, many, *, held=False, destination=None):
    with database.connect_owner() as owner:
        owner.execute(
            FILL,
            {
                "account": account.id,
                "event": event,
                "destination": destination or account.destinations[0],
                "many": many,
                "held": held,
            },
        )


@pytest.fixture
def grown(database, request):
    """A session that planned everything at 10 rows, and then the outbox grew."""
    alice = people.account(limit=1000)
    (event, *_) = people.events(alice, ["first"])
    session = Session(database.connect())
    for _ in range(WARM_UP):
        fill(database, alice, event, 10)
        session.settle(session.claim(5))
        people.events(alice, [f"warm-{_}"])
    fill(database, alice, event, request.param)
    return alice, session, request.param


MILLION = pytest.param(1_000_000, marks=[pytest.mark.slow, pytest.mark.timeout(240)])


@pytest.mark.parametrize("grown", [1_000, MILLION], indirect=True, ids=["thousand", "million"])
def test_what_was_planned_at_10_rows_reads_as_little_at_many(grown, database):
    alice, session, _many = grown
    taken = []
    scans, fetched = session.counted(lambda: taken.extend(session.claim(50)))
    assert (len(taken), scans) == (50, 0)
    assert fetched <= 50 * 12
    scans, fetched = session.counted(lambda: session.settle(taken, "retry"))
    assert scans == 0
    assert fetched <= 50 * 8

    with database.connect_owner() as owner:
        owner.execute("VACUUM ANALYZE outbox")  # new statistics: every plan is made anew
    taken = session.claim(50)
    scans, fetched = session.counted(lambda: session.settle(taken))
    assert scans == 0
    assert fetched <= 50 * 8

    event = people.events(alice, ["late"])
    assert len(event) == 1


@pytest.mark.parametrize("grown", [1_000, MILLION], indirect=True, ids=["thousand", "million"])
def test_a_crowded_destination_costs_the_others_nothing(grown, database):
    alice, session, _many = grown
    bob = people.account()
    (destination,) = alice.destinations
    database.connect().execute("UPDATE outbox SET held = true WHERE destination_id = %s", [destination])
    people.events(bob, ["1"])
    taken = []
    scans, fetched = session.counted(lambda: taken.extend(session.claim(50, busy=[destination])))
    assert [row[0] for row in taken] == [bob.id]
    assert scans == 0
    assert fetched <= 50
    scans, fetched = session.counted(
        lambda: session.connection.execute(
            "SELECT pusher.tend(%s, %s, %s, NULL)", [UUID(int=0), settings.READY_PER_DESTINATION, LEASE]
        )
    )
    assert scans == 0
    assert fetched <= 6 * settings.READY_PER_DESTINATION


def test_holding_the_excess_looks_at_what_it_holds(database):
    """Also when it was planned while the outbox was empty: then any index looks as good as the key."""
    alice = people.account(limit=1000)
    (event,) = people.events(alice, ["first"])
    with database.connect_owner() as owner:
        owner.execute("DELETE FROM outbox")
        owner.execute("ANALYZE outbox")
    fill(database, alice, event, 1_000)
    session = Session(database.connect())
    held = []
    crowd = "SELECT pusher.crowd(%b, 100, 200, NULL)"
    scans, fetched = session.counted(
        lambda: held.extend(session.connection.execute(crowd, [list(alice.destinations)]).fetchone())
    )
    assert (held, scans) == ([200], 0)
    assert fetched <= 100 + 200 * 4


REDELIVER = "SELECT pusher.redeliver(0::smallint, %s, %s, %s)"
SAMPLE = "SELECT * FROM pusher.sample(0::smallint, %s, %s, %s, %s, '{}', 'salt', 'digest')"


@pytest.mark.parametrize("grown", [1_000], indirect=True, ids=["thousand"])
def test_what_people_ask_for_reads_a_few_rows(grown):
    alice, session, _many = grown
    settled = session.connection.execute(
        "SELECT stream_id FROM event WHERE type = 'delivery.succeeded' ORDER BY seq DESC LIMIT 1"
    ).fetchone()
    (destination,) = alice.destinations
    event = uuid7()
    answer = asked(session, REDELIVER, [alice.id, *settled, alice.admin.pk])
    assert answer == ("requested",)
    asked(session, SAMPLE, [alice.id, destination, event, f"test-{event}"])


def asked(session, statement, values):
    answers = []

    def ask():
        answers.append(session.connection.execute(statement, values, prepare=True).fetchone())

    scans, fetched = session.counted(ask)
    assert scans == 0
    assert fetched <= 12
    return answers[0]


def claims_query():
    """The claim's one search, as it stands in the file, with parameters in place of its variables."""
    text = (SQL / "claim.sql").read_text()
    search = text[text.index("FOR v_slice") :]
    query = re.search(r"FROM \((SELECT o\.\* FROM outbox o.*?SKIP LOCKED)\) AS r;", search, re.DOTALL).group(
        1
    )
    options = re.findall(r"SET (enable_\w+) = (\w+)", text)
    for name, type_ in (
        ("v_now", "timestamptz"),
        ("p_since", "timestamptz"),
        ("p_busy", "uuid[]"),
        ("p_rows", "int"),
    ):
        query = query.replace(name, f"${['v_now', 'p_since', 'p_busy', 'p_rows'].index(name) + 1}::{type_}")
    return query, options


@pytest.mark.parametrize("many", [10, MILLION], ids=["ten", "million"])
def test_the_claims_plan_is_the_index_in_its_order(database, many):
    alice = people.account()
    (event,) = people.events(alice, ["1"])
    fill(database, alice, event, many)
    with database.connect_owner() as owner:
        owner.execute("VACUUM ANALYZE outbox")
    connection = database.connect()
    query, options = claims_query()
    for name, value in options:
        connection.execute(f"SET {name} = {value}")
    connection.execute(f"PREPARE search (timestamptz, timestamptz, uuid[], int) AS {query}")
    rows = connection.execute("EXPLAIN EXECUTE search (clock_timestamp(), NULL, '{}', 50)").fetchall()
    plan = "\n".join(line for (line,) in rows)
    assert "Index Scan using outbox_ready on outbox" in plan
    assert "Sort" not in plan
    assert "Seq Scan" not in plan


BUFFERS = "EXPLAIN (ANALYZE, BUFFERS, TIMING off, FORMAT json) "
PAGES = 20  # the rows of 10,000 runs fill 60, and their index entries 50
ADMITTED = """
INSERT INTO admission (account_id, ran_at, admitted)
SELECT %s, clock_timestamp() - n * interval '10 milliseconds' - interval '2 seconds', 1
  FROM generate_series(1, 10000) AS n
"""


def pages(connection, statement, values):
    """How many pages the statement looked at, with all that its functions did."""
    ((plan,),) = connection.execute(BUFFERS + statement, values, binary=True).fetchall()
    return plan[0]["Plan"]["Shared Hit Blocks"] + plan[0]["Plan"]["Shared Read Blocks"]


@pytest.fixture
def pinned(database):
    """An old transaction: nothing that dies from now on is cleaned up. Its snapshot sees none of it."""
    old = database.connect(autocommit=False)
    old.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    old.execute("SELECT count(*) FROM admission")
    return old


def test_what_was_admitted_and_forgotten_is_never_walked_by_accepts(database, pinned):
    """Also when they were planned while there was nothing: then any index looks as good as the account's."""
    with database.connect_owner() as owner:
        owner.execute("VACUUM ANALYZE admission")
    alice, session = people.account(limit=1000), database.connect()

    def accepting():
        statement, values = people.accepting(alice, [str(uuid7())])
        return pages(session, statement, values)

    for _ in range(WARM_UP):
        before = accepting()
    session.execute(ADMITTED, [alice.id])
    session.execute("DELETE FROM admission WHERE ran_at < clock_timestamp() - interval '1500 milliseconds'")
    assert accepting() < before + PAGES
    with database.connect_owner() as owner:
        owner.execute("VACUUM ANALYZE admission")  # new statistics, and no dead row may go
    accepting()  # plans anew, which reads the catalogs
    assert accepting() < before + PAGES


def test_no_other_accounts_runs_are_read(database):
    alice, bob, session = people.account(limit=1000), people.account(), database.connect()
    with database.connect_owner() as owner:
        owner.execute("VACUUM ANALYZE admission")
    for _ in range(WARM_UP):
        before = pages(session, *people.accepting(alice, [str(uuid7())]))
    session.execute(
        "INSERT INTO admission (account_id, ran_at, admitted)"
        " SELECT %s, clock_timestamp() + n * interval '1 ms', 1 FROM generate_series(-1000, 9000) AS n",
        [bob.id],
    )
    assert pages(session, *people.accepting(alice, [str(uuid7())])) < before + PAGES


def test_forgetting_goes_on_after_what_it_removed(database, pinned):
    alice, session = people.account(), database.connect()
    session.execute(ADMITTED, [alice.id])
    forget = "SELECT * FROM pusher.forget(%s, 10000)"
    began = session.execute("SELECT min(ran_at) FROM admission").fetchone()
    forgotten, goes_on_at = session.execute(forget, began).fetchone()
    assert 4_000 < forgotten < 4_300
    assert pages(session, forget, [goes_on_at]) < PAGES
    assert pages(session, forget, began) > 2 * PAGES  # what it would cost: nothing was cleaned up
