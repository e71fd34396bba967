"""A dump restored into a new cluster sends nothing until `after_restore`, then delivers and keeps sealing."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from django.conf import settings

from config import embedded, keeper
from eventstore import connections
from tests.outbox import people
from tests.outbox.workers import QUICK
from tests.receivers import Receiver

BASE = Path(settings.BASE_DIR)
BINARIES = embedded._binaries(18)  # those of 18 read what 16 wrote, too


class Cluster:
    """A new embedded PostgreSQL that holds what a dump brought, and our commands on it."""

    def __init__(self, data_dir: Path, dump: Path) -> None:
        self.data_dir = data_dir
        self.environment = (
            {name: value for name, value in os.environ.items() if not name.endswith("DATABASE_URL")}
            | QUICK
            | {
                "DATA_DIR": str(data_dir),
                "EMBEDDED_POSTGRES": "18",
                "DJANGO_SETTINGS_MODULE": "tests.journeys.settings",
            }
        )
        self.server = embedded.attach(data_dir)
        self.pg("pg_restore", "--no-owner", "--no-privileges", "--dbname", keeper.DATABASE, str(dump))
        self.manage("migrate", "--verbosity", "0")

    def pg(self, program: str, *arguments: str) -> None:
        login = self.server.login(keeper.OWNER)
        run(
            [
                str(BINARIES / program),
                "-h",
                login["host"],
                "-p",
                str(login["port"]),
                "-U",
                login["user"],
                *arguments,
            ],
            os.environ | {"PGPASSWORD": login["password"]},
        )

    def manage(self, *arguments: str, status: int = 0) -> str:
        return run([sys.executable, "manage.py", *arguments], self.environment, status=status)

    def worker(self) -> subprocess.Popen[bytes]:
        with (self.data_dir / "worker.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "manage.py", "worker"],
                cwd=BASE,
                env=self.environment,
                stdout=log,
                stderr=log,
            )

    def log(self) -> str:
        return (self.data_dir / "worker.log").read_text()


def run(command, environment, *, status=0):
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
    assert done.returncode == status, done.stdout
    return done.stdout


def ended(worker):
    worker.terminate()
    assert worker.wait(30) == 0


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_restored_dump_waits_for_its_acknowledgement(database, tmp_path):
    with Receiver() as receiver:
        alice = people.account(limit=100, url=receiver.url("/hook"), timeout_seconds=1)
        people.events(alice, [f"order-{n}" for n in range(20)])
        with connections.connect_sync() as connection:
            assert connection.execute("SELECT pusher.seal(0::smallint, 10)").fetchone() == (1,)
        dump = tmp_path / "dump"
        run([str(BINARIES / "pg_dump"), "-Fc", "-f", str(dump), database.owner_url], dict(os.environ))

        data_dir = tmp_path / "new"
        data_dir.mkdir(mode=0o700)
        new = Cluster(data_dir, dump)
        worker = new.worker()
        people.wait_until(lambda: "after_restore" in new.log(), seconds=40)
        time.sleep(2)
        assert receiver.seen == ()
        ended(worker)

        assert "Epoch 2" in new.manage("after_restore")
        worker = new.worker()
        seen = receiver.wait_for(20, timeout=20)
        people.wait_until(lambda: "not yet sealed: 0" in (told := new.manage("verify")) and told, seconds=20)
        ended(worker)

    assert {one.headers["cl-x-attempt"] for one in seen} == {
        "2"
    }  # the first may have been sent after the dump
    assert {one.headers["cl-x-event-id"] for one in seen} == {f"order-{n}" for n in range(20)}
    assert embedded.release(data_dir)
