"""Is anything stored, or answered by a 5xx, when clients send what they should not?

The real server on a real database, byte by byte. Behind each request stands another one, so that a connection
that is out of step shows.
"""

import asyncio
import contextlib
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import pytest

from config.management.commands import web
from tests import databases
from tests.api import servers
from tests.hostile import requests
from tests.outbox import people

pytestmark = pytest.mark.slow  # they share one `manage.py web`

AT_ONCE = 8
QUIET_SECONDS = 0.4  # a server that says nothing for so long waits for more
PROBE = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True)
class Site:
    port: int
    token: str
    sql: psycopg.Connection

    def stored(self) -> set[str]:
        return {name for (name,) in self.sql.execute("SELECT client_id FROM event_key")}


@pytest.fixture(scope="module")
def site(template, django_db_blocker, tmp_path_factory) -> Iterator[Site]:
    port = servers.free_port()
    argv = [sys.executable, "manage.py", "web", "--port", str(port)]
    with (
        django_db_blocker.unblock(),
        databases.copy(template, "hostile") as database,
        (tmp_path_factory.mktemp("web") / "log").open("w") as output,
        servers.running(argv, port, environment=database.environment, output=output),
    ):
        yield Site(port, people.account(limit=1000).text, database.connect())


def ask(site: Site, table: list[tuple[str, str]], behind: bytes = b"") -> dict[str, list[int]]:
    """The statuses that each case got until the server closed the connection, by what the case is about."""

    async def together() -> list[list[int]]:
        free = asyncio.Semaphore(AT_ONCE)

        async def one(number: int, case: str) -> list[int]:
            async with free:
                sent = requests.rendered(case, token=site.token, event_id=f"e{number}")
                return await _converse(site.port, sent + behind)

        return await asyncio.gather(*(one(number, case) for number, (_, case) in enumerate(table)))

    return dict(zip((why for why, _ in table), asyncio.run(together()), strict=True))


async def _converse(port: int, data: bytes) -> list[int]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    heard = bytearray()
    try:
        writing = asyncio.create_task(_write(writer, data))
        if not await _read(reader, heard, QUIET_SECONDS):
            await writing
            writer.write_eof()
            assert await _read(reader, heard, 10), f"the connection stays open after {bytes(heard)!r}"
        await writing
    finally:
        writer.transport.abort()
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] ([0-9]{3}) [A-Z]", heard)]


async def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    try:
        writer.write(data)
        await writer.drain()
    except OSError:
        pass  # it refused before the end


async def _read(reader: asyncio.StreamReader, heard: bytearray, quiet: float) -> bool:
    """True once the server has closed the connection, False when it has been quiet for so long."""
    try:
        while True:
            async with asyncio.timeout(quiet):
                piece = await reader.read(1 << 16)
            if not piece:
                return True
            heard += piece
    except TimeoutError:
        return False
    except OSError:
        return True


def is_refused(statuses: list[int]) -> bool:
    return all(400 <= status < 500 for status in statuses)


def test_nothing_behind_a_doubtful_end_is_read_as_a_request(site):
    before = site.stored()
    answers = ask(site, requests.SMUGGLED)
    assert {why: said for why, said in answers.items() if len(said) > 1 or max(said, default=0) >= 500} == {}
    assert site.stored() == before


def test_what_is_wrong_is_refused_and_the_connection_stays_in_step(site):
    before = site.stored()
    answers = ask(site, requests.REFUSED, PROBE)
    # Afterwards the connection is closed, or goes on with the next request and no other.
    taken = {why: said for why, said in answers.items() if not is_refused(said[:1])}
    out_of_step = {why: said for why, said in answers.items() if said[1:] not in ([], [200])}
    assert (taken, out_of_step) == ({}, {})
    assert site.stored() == before


def test_what_is_unusual_and_has_one_meaning_is_stored_once(site):
    before = site.stored()
    answers = ask(site, requests.TAKEN, PROBE)
    assert {why: said for why, said in answers.items() if said[:1] != [202]} == {}
    assert site.stored() - before == {f"e{number}" for number in range(len(requests.TAKEN))}


def test_a_head_that_drips_is_cut_off(site):
    wire = servers.Wire(site.port)
    began = time.monotonic()
    with contextlib.suppress(OSError):  # reset, or a broken pipe
        for letter in f"POST {requests.TARGET} HTTP/1.1\r\nX: {'y' * 1000}".encode():
            wire.send(bytes([letter]))
            time.sleep(0.2)
    assert time.monotonic() - began < web.SILENT_MS / 1000 + 2
    wire.close()


def test_the_tables_are_long_and_no_case_stands_twice():
    cases = [*requests.SMUGGLED, *requests.REFUSED, *requests.TAKEN]
    assert len(cases) > 200
    assert len({why for why, _ in cases}) == len({case for _, case in cases}) == len(cases)
