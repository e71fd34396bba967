"""Is a server that is too old, or not durable, refused in words that say what to do?"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psycopg
import pytest

from config import embedded, fitness, keeper
from config.embedded import CODE
from tests.databases import as_url

MAJOR = int(os.environ.get("EMBEDDED_POSTGRES", "18"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[embedded.Server]:
    """One that we may spoil."""
    folder = tmp_path_factory.mktemp("unfit")
    yield embedded.attach(folder, major=MAJOR)
    assert embedded.release(folder, major=MAJOR)


@contextmanager
def set_for_all(server: embedded.Server, name: str, value: str) -> Iterator[None]:
    options: dict[str, Any] = {**server.login(keeper.SUPERUSER), "dbname": "postgres", "autocommit": True}
    connection = psycopg.connect(**options)
    connection.execute(f"ALTER SYSTEM SET {name} = {value}")
    connection.execute("SELECT pg_reload_conf()")
    connection.close()
    try:
        yield
    finally:
        connection = psycopg.connect(**options)
        connection.execute(f"ALTER SYSTEM RESET {name}")
        connection.execute("SELECT pg_reload_conf()")
        connection.close()


def manage(server: embedded.Server, *arguments: str, query: str = "") -> subprocess.CompletedProcess[str]:
    url = as_url(server.login(), "datapusher") + query
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=CODE,
        env={
            **os.environ,
            "DATABASE_URL": url,
            "MIGRATION_DATABASE_URL": url,
            "DJANGO_SETTINGS_MODULE": "config.settings",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", fitness.DURABLE)
def test_a_server_that_may_lose_what_it_confirmed_is_refused(server: embedded.Server, name: str) -> None:
    with set_for_all(server, name, "off"):
        done = manage(server, "showmigrations")
    assert done.returncode == 1
    assert done.stderr.startswith(f"UnfitServer: {name} is off")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_url_that_gives_up_durability_is_refused(server: embedded.Server) -> None:
    done = manage(server, "showmigrations", query="&options=-c%20synchronous_commit%3Doff")
    assert done.stderr.startswith("UnfitServer: synchronous_commit is off")


@pytest.mark.slow
@pytest.mark.parametrize("value", ["on", "local", "remote_apply"])
def test_every_kind_of_commit_that_waits_for_the_disk_is_fit(server: embedded.Server, value: str) -> None:
    options = {**server.login(), "dbname": "datapusher", "options": f"-c synchronous_commit={value}"}
    with psycopg.connect(**options) as connection:
        fitness.check(connection)


def test_a_server_that_is_too_old_is_refused() -> None:
    old = cast("psycopg.Connection[Any]", SimpleNamespace(info=SimpleNamespace(server_version=150018)))
    with pytest.raises(fitness.UnfitServer, match="16 or newer is needed, this server is 15"):
        fitness.check(old)


@pytest.mark.slow
def test_a_server_that_is_away_is_one_line_too(tmp_path: Path) -> None:
    away = embedded.Server(host=str(tmp_path), passwords={keeper.APPLICATION: "x"})
    done = manage(away, "showmigrations")
    assert done.returncode == 1
    assert done.stderr.startswith("PostgreSQL: ")
    assert "Traceback" not in done.stderr
