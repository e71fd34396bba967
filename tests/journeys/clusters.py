"""Where is a dump restored? In a new embedded PostgreSQL, with our commands on it."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import psycopg

from config import embedded, keeper
from tests.outbox.workers import BASE

BINARIES = embedded._binaries(18)  # those of 18 read what 16 wrote, too


class Cluster:
    """A context. It holds what the dump brought; `environment`: of the gateway that was dumped."""

    def __init__(self, data_dir: Path, dump: Path, environment: dict[str, str]) -> None:
        self._data_dir = data_dir
        self._dump = dump
        self._environment = {
            name: value for name, value in environment.items() if not name.endswith("DATABASE_URL")
        } | {"DATA_DIR": str(data_dir), "EMBEDDED_POSTGRES": "18"}

    def __enter__(self) -> Self:
        self._data_dir.mkdir(mode=0o700)
        self._login = embedded.attach(self._data_dir).login(keeper.OWNER)
        try:
            self._restore()
        except BaseException:
            embedded.release(self._data_dir)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        assert embedded.release(self._data_dir)

    def _restore(self) -> None:
        where = ["-h", self._login["host"], "-p", str(self._login["port"]), "-U", self._login["user"]]
        what = ["--no-owner", "--no-privileges", "--dbname", keeper.DATABASE, str(self._dump)]
        password = {"PGPASSWORD": self._login["password"]}
        run([str(BINARIES / "pg_restore"), *where, *what], os.environ | password)
        self.manage("migrate", "--verbosity", "0")

    def manage(self, *arguments: str) -> str:
        return run([sys.executable, "manage.py", *arguments], self._environment)

    def waiting(self) -> int:
        with psycopg.connect(**self._login, dbname=keeper.DATABASE) as connection:
            return connection.execute("SELECT count(*) FROM outbox").fetchone()[0]

    @contextlib.contextmanager
    def worker(self) -> Iterator[Path]:
        """It works inside; the file has what it says."""
        said = self._data_dir / "worker.log"
        with said.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "manage.py", "worker"],
                cwd=BASE,
                env=self._environment,
                stdout=log,
                stderr=log,
            )
        try:
            yield said
        finally:
            process.terminate()
            ended = process.wait(30)
        assert ended == 0, said.read_text()[-3000:]


def dump(url: str, file: Path) -> None:
    run([str(BINARIES / "pg_dump"), "--format=custom", f"--file={file}", url], dict(os.environ))


def run(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(
        command,
        check=False,
        cwd=BASE,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout
