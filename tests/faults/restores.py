"""The faults of a server that is gone: a dump restored elsewhere, and a recovery to a point in time.

What was acknowledged before the dump was begun (or before the point in time) is there; deliveries
that may have been sent since are on record as interrupted, in a new epoch.
"""

import datetime as dt
import os
import shutil
import subprocess
import time
from pathlib import Path

from config import embedded, keeper
from tests.faults.deployment import Deployment
from tests.faults.trial import Fault, Trial

NOT_COPIED = shutil.ignore_patterns("postmaster.pid", "postmaster.opts", "pg_replslot", "pgsql_tmp*")


def dump_restored(trial: Trial) -> None:
    """Dumped under load, restored into another server; the first one sends no more."""
    trial.until_share(0.5)
    dump, dumped_at = trial.deployment.folder / "dump", time.time()
    _postgres(trial.deployment, "pg_dump", "--format=custom", f"--file={dump}")

    def restore(new: Deployment) -> None:
        _postgres(
            new, "pg_restore", "--no-owner", "--no-privileges", f"--dbname={keeper.DATABASE}", str(dump)
        )

    _go_on_elsewhere(trial, restore, known_until=dumped_at)


def point_in_time(trial: Trial) -> None:
    """A copy of the data folder taken under load, brought forward by the log of changes to a moment."""
    source = trial.deployment.data_dir / "postgres" / str(trial.deployment.major)
    copy, changes = trial.deployment.folder / "copy", trial.deployment.folder / "changes"
    with trial.deployment.sql(keeper.SUPERUSER) as session:
        session.execute("ALTER SYSTEM SET wal_keep_size = '4GB'")
        session.execute("SELECT pg_reload_conf()")
        trial.until_share(0.3)
        session.execute("SELECT pg_backup_start('faults', true)")
        shutil.copytree(source / "data", copy, ignore=NOT_COPIED, ignore_dangling_symlinks=True)
        (copy / "pg_replslot").mkdir(mode=0o700, exist_ok=True)
        ((label,),) = session.execute("SELECT labelfile FROM pg_backup_stop(false)").fetchall()
    (copy / "backup_label").write_text(label)
    trial.until_share(0.6)
    time.sleep(0.2)
    until = time.time()
    trial.load.wait()
    with trial.deployment.sql(keeper.SUPERUSER) as session:
        session.execute(
            "SELECT pg_current_xact_id()"
        )  # a commit after the moment: the target is never the end
        session.execute("SELECT pg_switch_wal()")
    shutil.copytree(source / "data" / "pg_wal", changes, ignore=shutil.ignore_patterns("archive_status"))
    moment = dt.datetime.fromtimestamp(until, dt.UTC).isoformat(sep=" ")
    with (copy / "postgresql.auto.conf").open("a") as settings:
        settings.write(
            f"restore_command = 'cp {changes}/%f %p'\n"
            f"recovery_target_time = '{moment}'\nrecovery_target_action = 'promote'\n"
        )
    (copy / "recovery.signal").touch()
    place = (
        trial.deployment.folder
        / f"new-{trial.fault.name}"
        / "data"
        / "postgres"
        / str(trial.deployment.major)
    )
    place.mkdir(parents=True, mode=0o700)
    shutil.copy(source / "passwords.json", place)
    copy.rename(place / "data")
    _go_on_elsewhere(trial, lambda _: None, known_until=until)


def _go_on_elsewhere(trial: Trial, restore, *, known_until: float) -> None:
    trial.load.wait()
    trial.deployment.until_drained()
    trial.deployment.stop()
    new = Deployment(trial.deployment.folder / f"new-{trial.fault.name}")
    shutil.copytree(trial.deployment.data_dir / "secrets", new.data_dir / "secrets", dirs_exist_ok=True)

    def acknowledge(new: Deployment) -> None:
        restore(new)
        new.manage("migrate", "--verbosity", "0")
        trial.note(new.manage("after_restore").stdout.splitlines()[0])

    new.prepare = acknowledge
    try:
        with new:
            began = time.monotonic()
            new.until_drained()
            trial.result.drain_seconds = round(time.monotonic() - began, 1)
            trial.judge(new, known_until=known_until)
    finally:
        trial.judged = True
        trial.deployment.start()
        trial.deployment.until_ready()


def _postgres(deployment: Deployment, program: str, *arguments: str) -> None:
    login = deployment.server.login(keeper.OWNER)
    where = ["-h", login["host"], "-p", str(login["port"]), "-U", login["user"]]
    database = [keeper.DATABASE] if program == "pg_dump" else []
    subprocess.run(
        [_binaries() / program, *where, *arguments, *database],
        env=os.environ | {"PGPASSWORD": login["password"]},
        check=True,
        capture_output=True,
    )


def _binaries() -> Path:
    return embedded._binaries(18)  # those of 18 read what 16 wrote, too


RESTORES = (
    Fault(
        "dump-restored", "a dump, taken under load, restored elsewhere", dump_restored, rate=150, alone=True
    ),
    Fault("point-in-time", "recovery to a point in time", point_in_time, rate=150, alone=True),
)
