"""A projection follows the blocks in order, and each block has its effect exactly once."""

import asyncio
import threading
from uuid import uuid4

import psycopg
import pytest

from eventstore import connections, projector
from tests.databases import Database
from tests.eventstore import stores

TALLY = """
CREATE TABLE tally (version int, position bigint);
CREATE FUNCTION pusher.project_tally(p_scope smallint, p_version int, p_first bigint, p_last bigint)
RETURNS void LANGUAGE sql AS $$
    INSERT INTO tally SELECT p_version, position FROM pusher.happened(p_scope, p_first, p_last)
$$;
INSERT INTO projection VALUES ('tally', 1);
INSERT INTO projection_checkpoint (name, version) VALUES ('tally', 1), ('tally', 2);
"""


@pytest.fixture
def tally(database: Database) -> stores.Connection:
    """A projection that notes every position that it was given: an effect that shows when it comes twice."""
    owner = database.connect_owner()
    owner.execute(TALLY)
    application = psycopg.conninfo.conninfo_to_dict(database.url)["user"]
    for grant in ("SELECT, INSERT ON tally", "EXECUTE ON FUNCTION pusher.project_tally"):
        owner.execute(f'GRANT {grant} TO "{application}"')
    return database.connect()


def noted(connection: stores.Connection, version: int = 1) -> list[int]:
    rows = connection.execute("SELECT position FROM tally WHERE version = %s ORDER BY position", [version])
    return [position for (position,) in rows.fetchall()]


def fill(connection: stores.Connection, blocks: int, events: int = 3) -> None:
    for _ in range(blocks):
        stores.append(connection, count=events)
        stores.seal(connection)


def test_each_block_has_its_effect_once(tally):
    fill(tally, 5)
    assert stores.project(tally, "tally", 2) == 2
    assert stores.project(tally, "tally", 2) == 2
    assert stores.project(tally, "tally", 2) == 1
    assert stores.project(tally, "tally", 2) == 0
    assert noted(tally) == list(range(1, 16))


def test_two_projectors_at_once_apply_each_block_once(tally, database: Database):
    fill(tally, 120, events=2)

    def project() -> None:
        connection = database.connect()
        while (
            stores.number(
                connection, "SELECT block FROM projection_checkpoint WHERE (name, version) = ('tally', 1)"
            )
            < 120
        ):
            stores.project(connection, "tally", 1)

    threads = [threading.Thread(target=project) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert noted(tally) == list(range(1, 241))


def test_one_that_is_at_it_is_not_waited_for(tally, database: Database):
    fill(tally, 2)
    busy = database.connect(autocommit=False)
    assert stores.project(busy, "tally", 1) == 1
    assert stores.project(tally, "tally", 1) == 0
    busy.rollback()  # as if it had been killed
    assert stores.project(tally, "tally", 5) == 2
    assert noted(tally) == list(range(1, 7))


def test_an_effect_that_fails_moves_no_checkpoint(tally, database: Database):
    fill(tally, 1)
    owner = database.connect_owner()
    owner.execute("ALTER TABLE tally ADD CONSTRAINT broken CHECK (position < 3)")
    with pytest.raises(psycopg.errors.CheckViolation):
        stores.project(tally, "tally")
    owner.execute("ALTER TABLE tally DROP CONSTRAINT broken")
    assert stores.project(tally, "tally") == 1
    assert noted(tally) == [1, 2, 3]


def test_while_versions_are_switched_nothing_moves(tally, database: Database):
    """The switch holds both checkpoints; after it, the new version goes on."""
    fill(tally, 1)
    switcher = database.connect(autocommit=False)
    switcher.execute("SELECT FROM projection_checkpoint WHERE name = 'tally' FOR UPDATE")
    switcher.execute("UPDATE projection SET active = 2 WHERE name = 'tally'")
    assert stores.project(tally, "tally") == 0
    switcher.commit()
    assert stores.project(tally, "tally") == 1
    assert (noted(tally, 1), noted(tally, 2)) == ([], [1, 2, 3])


def test_many_small_blocks_go_in_one_portion_and_large_ones_do_not(tally):
    fill(tally, 10)
    fill(tally, 3, events=8_000)
    assert stores.project(tally, "tally", 1_000) == 12  # about 20,000 events
    assert stores.project(tally, "tally", 1_000) == 1
    assert len(noted(tally)) == 24_030


def test_an_unknown_projection_does_nothing(database: Database):
    assert stores.project(database.connect(), "no such") == 0


def test_the_front_doors(tally):
    fill(tally, 3)

    async def catch_up() -> int:
        async with await connections.connect() as connection:
            return await projector.catch_up(connection, "tally", blocks=2)

    assert asyncio.run(catch_up()) == 2
    assert projector.catch_up_all("tally") == 1
    assert list(projector.active("tally")) == [1]


def test_a_transaction_around_it_is_refused(tally):
    async def catch_up() -> None:
        async with await connections.connect() as connection, connection.transaction():
            await projector.catch_up(connection, "tally")

    with pytest.raises(RuntimeError, match="autocommit"):
        asyncio.run(catch_up())


def test_an_event_of_another_stream_changes_nothing(tally):
    stores.append(tally, uuid4())
    assert stores.project(tally, "tally") == 0  # not sealed: not there


@pytest.mark.parametrize("job", [stores.seal, stores.project])
def test_when_nothing_happens_nothing_is_written(tally, database: Database, job):
    """Every drain asks a few times a second: that must not cost transaction ids, nor a flush of the log."""
    fill(tally, 1)
    stores.project(tally)
    asking = database.connect(autocommit=False)
    assert not job(asking)
    assert stores.number(asking, "SELECT pg_current_xact_id_if_assigned()") is None


def test_a_projector_that_read_the_pointer_before_a_switch_does_nothing_after_it(tally, database: Database):
    """It waits between its reading of the pointer and its lock of the checkpoint, and the switch goes by."""
    fill(tally, 1)
    switcher = database.connect_owner(autocommit=False)
    switcher.execute("LOCK TABLE projection_checkpoint IN ACCESS EXCLUSIVE MODE")
    answers: list[int] = []
    late = threading.Thread(target=lambda: answers.append(stores.project(tally, "tally")))
    late.start()
    waiting = (
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'projection_checkpoint'::regclass"
    )
    while not stores.number(switcher, waiting):
        pass
    switcher.execute("UPDATE projection SET active = 2 WHERE name = 'tally'")
    switcher.commit()
    late.join()
    assert answers == [0]
    assert noted(tally, 1) == []
