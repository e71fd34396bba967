"""An account reads and exports its own sealed history, in order; payloads are read, and erased in slices."""

import hashlib
import subprocess
import sys
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from django.core.management import call_command

from config.embedded import CODE
from eventstore import export, payloads, read
from tests.databases import Database
from tests.eventstore import stores

OTHER = uuid4()


@pytest.fixture
def connection(database: Database) -> stores.Connection:
    made = database.connect()
    for number in range(5):
        stores.append(made, data={"number": number})
        stores.append(made, account=OTHER)
        stores.seal(made)
    return made


def test_the_sealed_history_of_an_account_is_read_in_pages(connection):
    page = read.sealed(stores.ACCOUNT, most=3)
    assert [event.data["number"] for event in page] == [0, 1, 2]
    rest = read.sealed(stores.ACCOUNT, after=page[-1].position or 0)
    assert [event.data["number"] for event in rest] == [3, 4]
    assert read.sealed(stores.ACCOUNT, after=10) == []


def test_a_page_says_where_the_one_after_and_the_one_before_begin(connection):
    """The account's positions are 1, 3, 5, 7, 9."""
    pages = [read.page(stores.ACCOUNT, after=after, most=2) for after in (0, 3, 7, 9, 2**63 - 1)]
    assert [[event.position for event in page.events] for page in pages] == [[1, 3], [5, 7], [9], [], []]
    assert [page.next_after for page in pages] == [3, 7, None, None, None]
    assert [page.previous_after for page in pages] == [None, 0, 3, 5, 5]
    assert read.page(stores.ACCOUNT, after=1, most=2).previous_after == 0  # one only, and so no whole page
    assert [event.block for event in pages[1].events] == [3, 4]
    assert read.page(uuid4(), after=5, most=2) == read.Page([], None, None)


def test_the_event_of_a_delivery_is_found_by_its_id(connection):
    event, neighbour = (UUID(bytes=b"\1" * 6 + uuid4().bytes[6:]) for _ in range(2))
    delivery = stores.number(connection, "SELECT pusher.delivery_id(%s, %s)", event, uuid4())
    stranger = stores.number(connection, "SELECT pusher.delivery_id(%s, %s)", event, uuid4())
    for stream, pairs in ((neighbour, []), (event, [[str(uuid4()), "d"], [str(delivery), "e"]])):
        stores.append(connection, stream, kind="event.received", data={"deliveries": pairs})
    found = read.received(stores.ACCOUNT, delivery)
    assert found is not None
    assert found.stream_id == event
    assert read.received(stores.ACCOUNT, stranger) is None
    assert read.received(OTHER, delivery) is None


def test_an_event_is_read_as_it_was_stored(connection):
    digest = hashlib.sha256(b"x").digest()
    stream = uuid4()
    moment = datetime(2026, 11, 21, 1, 2, 3, 4, UTC)
    connection.execute(
        "SELECT pusher.append(0::smallint, %s, %s, '{1}', '{a.b}', %s::jsonb[], %s, %s)",
        [[OTHER], [stream], [stores.Jsonb({"big": 10**25})], [digest], moment],
    )
    (event,) = read.stream(OTHER, stream)
    assert (event.type, event.version, event.position, event.payload_digest) == ("a.b", 1, None, digest)
    assert (event.recorded_at, event.data) == (moment, {"big": 10**25})
    assert read.sealed(OTHER, after=8)[-1].stream_id != stream  # it is not sealed yet


def test_a_stream_is_read_up_to_this_moment(connection):
    stream = uuid4()
    for number in range(3):
        stores.append(connection, stream, data={"number": number})
    assert [event.version for event in read.stream(stores.ACCOUNT, stream)] == [1, 2, 3]
    assert read.stream(OTHER, stream) == []


def test_export_writes_the_lines_that_the_leaves_are_hashes_of(connection, capsys, monkeypatch):
    monkeypatch.setattr(export, "PORTION", 2)
    call_command("export", account=str(stores.ACCOUNT))
    lines = capsys.readouterr().out.splitlines()
    leaves = connection.execute(
        "SELECT leaf FROM event_position WHERE account_id = %s ORDER BY position", [stores.ACCOUNT]
    ).fetchall()
    assert [(hashlib.sha256(b"\x00" + line.encode()).digest(),) for line in lines] == leaves
    call_command("export", account=str(stores.ACCOUNT), after=5)
    assert capsys.readouterr().out.splitlines() == lines[3:]


@pytest.mark.slow
def test_an_export_whose_reader_has_gone_ends_quietly(connection, database):
    command = [sys.executable, "manage.py", "export", "--account", str(stores.ACCOUNT)]
    with subprocess.Popen(
        command, cwd=CODE, env=database.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


@pytest.fixture
def bodies(connection) -> list:
    events = [uuid4() for _ in range(5)]
    for number, event in enumerate(events):
        connection.execute(
            "INSERT INTO payload VALUES (%s, %s, %s, 'salt')", [OTHER, event, b"x" * 10 * number]
        )
    return events


def test_payloads_are_read_alone_and_in_numbers(bodies):
    assert payloads.read(OTHER, bodies[2]) == b"x" * 20
    assert payloads.read(stores.ACCOUNT, bodies[2]) is None
    found = payloads.read_many(OTHER, [*bodies[1:4], uuid4()], at_most=20)
    assert found == {bodies[1]: b"x" * 10, bodies[2]: b"x" * 20, bodies[3]: None}


def test_payloads_of_an_account_are_erased_in_slices(bodies, connection):
    assert [payloads.erase(OTHER, most=3) for _ in range(3)] == [3, 2, 0]
    assert stores.number(connection, "SELECT count(*) FROM payload") == 0
