"""Does a wrong setting stop the start, by its name, without telling secrets?"""

import os
import subprocess
import sys
import time

import psycopg
import pytest
from django.db import connection

from config.database import database
from config.embedded import CODE
from config.environment import SettingError
from config.postgres.base import DatabaseWrapper

URL = "postgresql://app:s3cret@db.example:5433/pusher"


def start(**environment: str) -> subprocess.CompletedProcess[str]:
    base = {key: value for key, value in os.environ.items() if key in {"PATH", "HOME", "LANG"}}
    given = {"DATABASE_URL": URL, "SECRET_KEY": "x", "ENCRYPTION_KEYS": f"k1:{'A' * 43}=", **environment}
    return subprocess.run(
        [sys.executable, "manage.py", "help", "migrate"],
        cwd=CODE,
        env={**base, **given},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def entry(url: str, *, owner_url: str = "", pool: bool = False) -> dict[str, object]:
    from pathlib import Path

    return database(url, owner_url=owner_url or url, pool=pool, data_dir=Path("/data"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql://root@localhost/x"),  # another engine
        ("DATABASE_URL", "postgresql://app:s3cret@db.example/"),  # no database
        ("DATABASE_URL", "postgresql://app:s3cret@[db/x"),  # no URL at all
        ("MIGRATION_DATABASE_URL", "postgresql://owner:s3cret@db.example/another"),  # not the same database
        ("PORT", "eighty"),  # no number
        ("PORT", "70000"),  # too large
        ("DATABASE_POOL", "perhaps"),  # neither yes nor no
        ("ENCRYPTION_KEYS", "k1:s3cret"),  # not 32 bytes
        ("ENCRYPTION_KEYS", f"k\u00b2:{'A' * 43}="),  # a digit to Python, but no ASCII
        ("SECRET_KEY", ""),  # missing with a server of one's own
    ],
)
def test_a_wrong_setting_is_named(name: str, value: str) -> None:
    done = start(**{name: value})
    assert done.returncode == 1
    assert done.stderr.startswith("Setting: ")
    assert name in done.stderr
    assert "s3cret" not in done.stderr


def test_right_settings_start() -> None:
    done = start()
    assert done.returncode == 0, done.stderr


def test_a_url_becomes_djangos_entry() -> None:
    found = entry(URL + "?sslmode=require&connect_timeout=3")
    assert {key: found[key] for key in ("NAME", "USER", "PASSWORD", "HOST", "PORT")} == {
        "NAME": "pusher",
        "USER": "app",
        "PASSWORD": "s3cret",
        "HOST": "db.example",
        "PORT": "5433",
    }
    assert found["OPTIONS"] == {"sslmode": "require", "connect_timeout": "3"}


def test_without_a_url_the_embedded_server_is_meant() -> None:
    assert entry("")["EMBEDDED"] == "/data"


def test_a_pool_keeps_no_connections_of_django() -> None:
    found = entry(URL, pool=True)
    assert found["CONN_MAX_AGE"] == 0
    assert "pool" in found["OPTIONS"]  # type: ignore[operator]


@pytest.mark.slow
def test_nobody_waits_long_for_a_database_that_is_away() -> None:
    away = DatabaseWrapper(
        {**connection.settings_dict, "EMBEDDED": "", **entry("postgresql://a@127.0.0.1:1/none", pool=True)},
        alias="away",
    )
    began = time.monotonic()
    try:
        with pytest.raises(psycopg.OperationalError):
            away.connect()
    finally:
        away.close_pool()
    assert time.monotonic() - began < 4


def test_another_database_for_the_owner_is_refused() -> None:
    with pytest.raises(SettingError, match="same database"):
        entry(URL, owner_url="postgresql://owner@db.example/other")
