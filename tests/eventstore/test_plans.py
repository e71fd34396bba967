"""Sealing, projecting and reading cost what is new, not what is there: the plans at a million events."""

import json
from uuid import UUID, uuid4

import pytest

from eventstore import read
from tests.databases import Database
from tests.eventstore import stores


def nodes(plan: dict) -> list[dict]:
    return [plan, *[node for child in plan.get("Plans", []) for node in nodes(child)]]


def explain(connection: stores.Connection, query: str, *values: object) -> list[dict]:
    row = connection.execute("EXPLAIN (ANALYZE, FORMAT JSON) " + query, values).fetchone()
    assert row is not None
    found = row[0] if isinstance(row[0], list) else json.loads(row[0])
    return nodes(found[0]["Plan"])


MEMBERS = "SELECT count(*) FROM pusher.members(0::smallint, 1, %s::pg_snapshot, pg_current_snapshot())"


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("statistics", ["fresh", "of an empty table"])
def test_sealing_reads_only_what_is_new(database: Database, statistics):
    connection, owner = database.connect(), database.connect_owner()
    first = stores.number(connection, "SELECT pg_current_xact_id()::text::bigint")
    burn_ids(database, 200)
    owner.execute("ALTER TABLE event SET (autovacuum_enabled = off)")
    owner.execute("ANALYZE event")
    owner.execute(
        """
        INSERT INTO event (epoch, account_id, stream_id, version, type, data, xid)
        SELECT 1, gen_random_uuid(), gen_random_uuid(), 1, 'delivery.succeeded', '{"attempt": 1}',
               (%s + i / 5000)::text::xid8
          FROM generate_series(0, 999999) i
        """,
        [first],
    )
    if statistics == "fresh":
        owner.execute("ANALYZE event")
    before = stores.number(connection, "SELECT pg_current_snapshot()::text")
    stores.append(connection, count=10)
    connection.execute("SET enable_seqscan = off; SET enable_bitmapscan = off")  # as pusher.seal_next does
    plan = explain(connection, MEMBERS, before)
    scans = [node for node in plan if node.get("Relation Name") == "event"]
    assert {node["Index Name"] for node in scans} == {"event_in_commit_order"}
    assert sum(node["Actual Rows"] for node in scans) == 10
    assert sum(node.get("Rows Removed by Filter", 0) for node in scans) == 0
    seal_in_portions(connection)


def seal_in_portions(connection: stores.Connection) -> None:
    """Each block of a large backlog costs alike: the cut is found by walking the index for one block only."""
    assert stores.seal(connection, 10_000) == 1
    took = [
        node["Actual Total Time"]
        for _ in range(3)
        for node in explain(connection, "SELECT pusher.seal(0::smallint, 10000)")
    ]
    assert max(took) < 2_000
    assert stores.number(connection, "SELECT max(count) FROM block") <= 10_000


def burn_ids(database: Database, count: int) -> None:
    connection = database.connect()
    for _ in range(count):
        connection.execute("SELECT pg_current_xact_id()")


@pytest.mark.slow
def test_a_page_of_history_is_read_by_two_indexes(database: Database):
    connection, owner = database.connect(), database.connect_owner()
    accounts = [uuid4() for _ in range(20)]
    for account in accounts * 5:
        stores.append(connection, count=500, account=account)
        stores.seal(connection)
    owner.execute("ANALYZE")
    plan = explain(connection, read._SEALED, accounts[7], 100, 100)
    relations = {node["Relation Name"]: node["Node Type"] for node in plan if "Relation Name" in node}
    assert set(relations) == {"event", "event_position"}
    assert not any(kind == "Seq Scan" for kind in relations.values())


EVENTS = """
INSERT INTO event (epoch, account_id, stream_id, version, type, data, xid)
SELECT 1, CASE WHEN i %% 100 = 0 THEN %s::uuid ELSE %s::uuid END, gen_random_uuid(), 1, 'event.received',
       '{"deliveries": []}', (1000 + i / 100)::text::xid8
  FROM generate_series(1, 100000) i
"""
POSITIONS = """
INSERT INTO event_position (scope, position, block, account_id, epoch, xid, seq, leaf)
SELECT 0, row_number() OVER (ORDER BY seq), seq / 1000, account_id, epoch, xid, seq, '' FROM event
"""
PAGE = {"event_position_by_account", "event_in_commit_order"}


@pytest.mark.slow
def test_a_page_of_a_large_history_costs_what_is_on_it(database: Database):
    """An account that has a hundredth of it, one that has the rest, and one that has nothing."""
    connection, owner = database.connect(), database.connect_owner()
    rare, frequent = uuid4(), uuid4()
    for table in ("event", "event_position"):
        owner.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
    owner.execute(EVENTS, [rare, frequent])
    owner.execute(POSITIONS)
    for statistics in ("VACUUM event", "ANALYZE event, event_position"):  # none at all, and good ones
        owner.execute(statistics)
        for account in (rare, frequent, uuid4()):
            for after in (0, 50_000, 99_990, 2**63 - 1):
                scans_only(connection, read._SEALED, PAGE, account, after, 101)
                scans_only(connection, read._BEFORE, {"event_position_by_account"}, account, after, 101)
        moment = UUID(int=uuid4().int >> 80 << 80)
        end = UUID(int=moment.int | (1 << 80) - 1)
        scans_only(connection, read._RECEIVED, {"event_pkey"}, frequent, moment, end, "[]")


def scans_only(connection: stores.Connection, query: str, indexes: set[str], *values: object) -> None:
    scans = [node for node in explain(connection, query, *values) if "Relation Name" in node]
    assert {node.get("Index Name") for node in scans} == indexes
    assert max(node["Actual Rows"] for node in scans) <= 101
    assert sum(node.get("Rows Removed by Filter", 0) for node in scans) == 0
