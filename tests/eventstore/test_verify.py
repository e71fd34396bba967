"""Whatever the owner of the tables does to the history, verify finds it and names the place."""

import hashlib
import re
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from psycopg import sql

from eventstore import verify
from tests.databases import Database
from tests.eventstore import stores

AT_5 = " WHERE seq = (SELECT seq FROM event_position WHERE position = 5)"


@pytest.fixture
def owner(database: Database) -> stores.Connection:
    """Three blocks of 4, 4 and 2 events, the last two of one stream; the triggers are off."""
    connection = database.connect_owner()
    stream = uuid4()
    for streams in ([uuid4() for _ in range(4)], [uuid4() for _ in range(4)], [stream, stream]):
        for name in streams:
            stores.append(connection, name, data={"text": "a", "stream": str(name)})
        stores.seal(connection)
    for table in ("event", "event_position", "block", "history"):
        connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER append_only")
    return connection


def at_5(owner: stores.Connection, change: str) -> None:
    """Do something to the event at position 5, the first of block 2."""
    owner.execute(change + AT_5)


def damages(connection: stores.Connection, head: str | None = None) -> list[str]:
    report = verify.verify(connection, head=verify.Head.parse(head) if head else None)
    return [str(damage) for damage in report.damages]


def test_an_untouched_history_is_whole(owner):
    stores.append(owner)
    report = verify.verify(owner)
    assert report.damages == []
    assert (report.events, report.blocks, report.unsealed) == (10, 3, 1)
    assert str(report.head) == stores.number(
        owner, "SELECT '3:' || encode(hash, 'hex') FROM block WHERE number = 3"
    )


def test_an_empty_history_is_whole(database: Database):
    report = verify.verify(database.connect())
    assert (report.events, report.blocks, report.head, report.damages) == (0, 0, None, [])


CHANGED = [
    """UPDATE event SET data = data || '{"text": "b"}'""",  # a byte
    """UPDATE event SET data = data || '{"stream": null}'""",
    "UPDATE event SET type = 'thing.happened '",
    "UPDATE event SET recorded_at = recorded_at + interval '1 microsecond'",
    "UPDATE event SET payload_digest = '\\x00'",
    "UPDATE event SET account_id = gen_random_uuid()",
    "UPDATE event SET stream_id = gen_random_uuid()",
    "UPDATE event SET version = 2",
]


@pytest.mark.parametrize("change", CHANGED)
def test_a_changed_byte_is_found(owner, change):
    at_5(owner, change)
    assert damages(owner) == ["position 5 (block 2): the event was changed"]


def test_a_removed_event_is_found(owner):
    at_5(owner, "DELETE FROM event")
    assert damages(owner) == ["position 5 (block 2): the event was removed"]


def test_a_removed_position_is_found(owner):
    owner.execute("DELETE FROM event_position WHERE position = 5")
    first, *others = damages(owner)
    assert first == "position 5 (block 2): the position was removed"
    assert re.fullmatch(r"event 1 of stream .*: it was inserted: it would belong into block 2, .*", others[0])


def test_an_event_removed_with_its_position_is_found(owner):
    at_5(owner, "DELETE FROM event")
    owner.execute("DELETE FROM event_position WHERE position = 5")
    assert damages(owner) == ["position 5 (block 2): the position was removed"]


INSERT = """
INSERT INTO event (scope, epoch, account_id, stream_id, version, type, data, xid, seq)
OVERRIDING SYSTEM VALUE
SELECT scope, epoch, account_id, gen_random_uuid(), 1, type, data, xid, {seq} FROM event
"""


def test_an_inserted_event_is_found(owner):
    at_5(owner, INSERT.format(seq="seq + 1000"))
    (found,) = damages(owner)
    assert re.fullmatch(
        r"event 1 of stream .*: it was inserted: it would belong into block 2, and stands in none", found
    )


def test_an_event_inserted_at_anothers_place_is_found(owner):
    at_5(owner, INSERT.format(seq="seq"))
    assert damages(owner)[0] == "position 5 (block 2): two events stand at it: one was inserted"


def test_an_event_inserted_and_one_removed_do_not_cancel_out(owner):
    at_5(owner, INSERT.format(seq="seq + 1000"))
    at_5(owner, "DELETE FROM event")
    found = damages(owner)
    assert found[0] == "position 5 (block 2): the event was removed"
    assert "it was inserted" in found[1]


def test_an_event_inserted_with_a_position_of_its_own_is_found(owner):
    at_5(owner, INSERT.format(seq="1000"))
    owner.execute(
        "INSERT INTO event_position SELECT scope, 11, 3, account_id, epoch, xid, seq,"
        " sha256('\\x00'::bytea || convert_to(pusher.line(e), 'UTF8')) FROM event e WHERE seq = 1000"
    )
    assert damages(owner)[0] == "position 11: it was inserted: it lies in no block"


def test_swapped_events_are_found(owner):
    owner.execute(
        """
        UPDATE event_position p SET seq = o.seq, xid = o.xid, leaf = o.leaf, account_id = o.account_id
          FROM event_position o WHERE (p.position, o.position) IN ((5, 6), (6, 5))
        """
    )
    assert damages(owner) == [
        "position 6 (block 2): the events were swapped: they are not in the order of seq"
    ]


def test_events_swapped_between_blocks_are_found(owner):
    owner.execute(
        """
        UPDATE event_position p SET seq = o.seq, xid = o.xid, leaf = o.leaf, account_id = o.account_id
          FROM event_position o WHERE (p.position, o.position) IN ((2, 6), (6, 2))
        """
    )
    found = damages(owner)
    assert found[0] == "position 2 (block 1): the event belongs into another block"


def test_contents_swapped_between_events_are_found(owner):
    owner.execute(
        """
        UPDATE event e SET data = o.data FROM event o
         WHERE (e.seq, o.seq) IN (SELECT a.seq, b.seq FROM event_position a, event_position b
                                   WHERE (a.position, b.position) IN ((5, 6), (6, 5)))
        """
    )
    assert damages(owner) == [f"position {place} (block 2): the event was changed" for place in (5, 6)]


def test_a_change_with_its_leaf_made_to_fit_is_found_by_the_root(owner):
    at_5(owner, """UPDATE event SET data = '{"text": "b"}'""")
    refit_leaf(owner)
    assert damages(owner) == ["block 2: its root is not that of its events"]


def test_a_change_made_to_fit_up_to_its_block_is_found_by_the_chain(owner):
    at_5(owner, """UPDATE event SET data = '{"text": "b"}'""")
    refit_leaf(owner)
    refit_block(owner, 2)
    assert damages(owner) == ["block 3: it does not name the hash of the block before"]


def test_a_history_written_anew_from_there_on_is_found_by_a_noted_head(owner):
    noted = str(verify.verify(owner).head)
    at_5(owner, """UPDATE event SET data = '{"text": "b"}'""")
    refit_leaf(owner)
    refit_block(owner, 2)
    owner.execute("UPDATE block SET previous = (SELECT hash FROM block WHERE number = 2) WHERE number = 3")
    refit_block(owner, 3)
    assert damages(owner) == []
    assert damages(owner, noted) == [f"block 3: the head noted for it was {noted[2:]}"]


def refit_leaf(owner) -> None:
    owner.execute(
        """
        UPDATE event_position p SET leaf = sha256('\\x00'::bytea || convert_to(pusher.line(e), 'UTF8'))
          FROM event e WHERE e.seq = p.seq AND p.position = 5
        """
    )


def refit_block(owner, number: int) -> None:
    owner.execute(
        """
        UPDATE block b SET root = (SELECT pusher.merkle_root(array_agg(leaf ORDER BY position))
                                     FROM event_position p WHERE p.block = b.number)
         WHERE number = %s
        """,
        [number],
    )
    owner.execute(
        """
        UPDATE block b SET hash = sha256('\\x02'::bytea || convert_to(pusher.block_line(b), 'UTF8'))
         WHERE number = %s
        """,
        [number],
    )


def test_a_removed_block_is_found(owner):
    owner.execute("DELETE FROM block WHERE number = 2")
    assert damages(owner)[0] == "block 3: block 2 was removed"


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE block SET sealed_at = now() WHERE number = 2",
        "UPDATE block SET root = '\\x00' WHERE number = 2",
        "UPDATE block SET epoch = 2 WHERE number = 2",
        "UPDATE block SET snapshot = '5:5:' WHERE number = 2",
        "UPDATE block SET count = 5 WHERE number = 2",
        "UPDATE block SET previous = '\\x' WHERE number = 2",
    ],
)
def test_a_changed_block_is_found(owner, change):
    owner.execute(change)
    assert "block 2: its hash is not that of its content" in damages(owner)


def test_an_end_cut_off_is_found_by_a_noted_head(owner):
    noted = str(verify.verify(owner).head)
    owner.execute("DELETE FROM event WHERE seq IN (SELECT seq FROM event_position WHERE block = 3)")
    owner.execute("DELETE FROM event_position WHERE block = 3")
    owner.execute("DELETE FROM block WHERE number = 3")
    assert damages(owner) == []  # it looks whole from inside
    assert damages(owner, noted) == ["block 3: the history ends at block 2: its end was cut off"]


def test_positions_and_blocks_sealed_anew_without_an_event_are_found(owner):
    """The first of two versions goes, and everything from there on is sealed again as if nothing had been."""
    owner.execute(
        "DELETE FROM event WHERE version = 1 AND seq IN (SELECT seq FROM event_position WHERE block = 3)"
    )
    owner.execute("DELETE FROM event_position WHERE block = 3")
    owner.execute("DELETE FROM block WHERE number = 3")
    assert stores.seal(owner) == 3
    assert damages(owner) == ["position 9 (block 3): version 1 of its stream was removed"]


def test_versions_in_the_wrong_order_are_found(owner):
    for version in ("12 - version", "version - 9"):
        statement = (
            "UPDATE event SET version = {} WHERE seq IN (SELECT seq FROM event_position WHERE block = 3)"
        )
        owner.execute(sql.SQL(statement).format(sql.SQL(version)))
    owner.execute("DELETE FROM event_position WHERE block = 3")
    owner.execute("DELETE FROM block WHERE number = 3")
    assert stores.seal(owner) == 3
    assert damages(owner) == ["position 9 (block 3): it stands before version 1 of its stream"]


def test_a_changed_payload_is_found_and_an_erased_one_is_none(database: Database):
    connection = database.connect()
    account = uuid4()
    for number in range(3):
        event, salt, body = uuid4(), b"salt", b"body %d" % number
        connection.execute(
            "SELECT pusher.append(0::smallint, %s, %s, '{1}', '{event.received}', '{\"{}\"}', %s, NULL)",
            [[account], [event], [hashlib.sha256(salt + body).digest()]],
        )
        connection.execute("INSERT INTO payload VALUES (%s, %s, %s, %s)", [account, event, body, salt])
    stores.seal(connection)
    assert verify.verify(connection).payloads == 3
    connection.execute("DELETE FROM payload WHERE body = 'body 0'")
    report = verify.verify(connection)
    assert (report.payloads, report.damages) == (2, [])
    connection.execute("UPDATE payload SET body = 'other' WHERE body = 'body 2'")
    assert damages(connection) == ["position 3 (block 1): the payload was changed"]


def test_only_so_many_damages_are_named(database: Database):
    connection = database.connect_owner()
    stores.append(connection, count=100)
    stores.seal(connection)
    connection.execute("ALTER TABLE event DISABLE TRIGGER append_only")
    connection.execute("UPDATE event SET type = 'x'")
    assert len(damages(connection)) == verify.MOST_DAMAGES


def test_portions_join_seamlessly(database: Database, monkeypatch):
    monkeypatch.setattr(verify, "PORTION", 7)
    connection = database.connect()
    for _ in range(10):
        stores.append(connection, count=5)
        stores.seal(connection)
    seen: list[tuple[int, int]] = []
    report = verify.verify(connection, progress=lambda done, total: seen.append((done, total)))
    assert (report.events, report.damages) == (50, [])
    assert seen[-1] == (50, 50)


def test_the_command_says_what_it_verified_and_fails_on_damage(owner, capsys):
    call_command("verify")
    head = str(verify.verify(owner).head)
    assert f"verified 10 events in 3 blocks, head {head}" in capsys.readouterr().out
    call_command("verify", head=head)
    at_5(owner, "DELETE FROM event")
    with pytest.raises(SystemExit) as ended:
        call_command("verify")
    assert ended.value.code == 1
    assert "position 5 (block 2): the event was removed" in capsys.readouterr().err


@pytest.mark.parametrize("head", ["3", "3:xyz", "x:00", ""])
def test_a_head_that_is_none_is_refused(head):
    with pytest.raises(verify.HeadError):
        verify.Head.parse(head)


def test_the_command_refuses_a_head_that_is_none(database: Database):
    with pytest.raises(CommandError, match="--head"):
        call_command("verify", head="nonsense")
