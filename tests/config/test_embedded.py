"""Does the embedded PostgreSQL start, come back and end by itself, whatever dies, and whoever runs it?

Every server here is real, in a folder of its own; users of it are processes of their own.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from config import embedded, keeper
from config.embedded import CODE

pytestmark = pytest.mark.slow

MAJOR = int(os.environ.get("EMBEDDED_POSTGRES", "18"))
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has this case")

# A user of the server: attaches at every line it is sent, and answers what it got.
USER = """
import sys
from pathlib import Path
import psycopg
from config import embedded
for line in sys.stdin:
    try:
        server = embedded.attach(Path(sys.argv[1]), major=int(sys.argv[2]), patience=30)
        with psycopg.connect(**server.login(), dbname="datapusher", autocommit=True) as connection:
            print(connection.execute(line).fetchone()[0], flush=True)
    except psycopg.OperationalError as error:
        print("ERROR", str(error).replace(chr(10), " "), flush=True)
"""

# In a namespace of its own that allows no further ones; somebody outside maps the users meanwhile.
SHUT_IN = """
import os
os.unshare(os.CLONE_NEWUSER)
print("in", flush=True)
input()
open("/proc/sys/user/max_user_namespaces", "w").write("0")
print("shut", flush=True)
"""


@dataclass
class User:
    process: subprocess.Popen[str]

    def send(self, query: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(query + "\n")
        self.process.stdin.flush()

    def answer(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def ask(self, query: str) -> str:
        self.send(query)
        return self.answer()

    def leave(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(10)


class Users:
    """Makes users, and sees that none, and no server, outlives the test."""

    def __init__(self, data_dir: Path, stack: ExitStack) -> None:
        self.data_dir = data_dir
        self.stack = stack
        self.place = keeper.Place(data_dir / "postgres" / str(MAJOR))
        stack.callback(lambda: eventually(lambda: not self.server_runs()))

    def come(self, *, prelude: str = "") -> User:
        process = subprocess.Popen(
            [sys.executable, "-c", prelude + USER, self.data_dir, str(MAJOR)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=CODE,
        )
        self.stack.callback(self._end, process)
        return User(process)

    def _end(self, process: subprocess.Popen[str]) -> None:
        process.kill()
        with process:
            pass

    def server_runs(self) -> bool:
        return bool(self.keepers() or keeper.processes_in(self.place.home / "data"))

    def keepers(self) -> list[int]:
        return [
            int(entry.name)
            for entry in Path("/proc").glob("[0-9]*")
            if f"config.keeper\0{self.place.root}\0" in command_line(entry)
        ]

    def postmaster(self) -> int:
        return keeper.postmaster(self.place.home / "data")


def command_line(entry: Path) -> str:
    try:
        return (entry / "cmdline").read_text(errors="replace")
    except OSError:
        return ""


def eventually(condition: Callable[[], object], seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it never came true"
        time.sleep(0.02)


@pytest.fixture
def users(tmp_path: Path) -> Iterator[Users]:
    with ExitStack() as stack:
        yield Users(tmp_path / "data", stack)


@pytest.fixture
def superuser(users: Users) -> Iterator[psycopg.Connection[Any]]:
    users.come().ask("SELECT 1")
    server = embedded.attach(users.data_dir, major=MAJOR)
    connection = psycopg.connect(**server.login(keeper.SUPERUSER), dbname="datapusher", autocommit=True)
    yield connection
    connection.close()
    embedded.release(users.data_dir, major=MAJOR, wait_seconds=0)


def test_two_that_begin_at_once_share_one_server(users: Users) -> None:
    several = [users.come() for _ in range(4)]
    for user in several:
        user.send("SELECT current_user")
    assert [user.answer() for user in several] == ["datapusher"] * 4
    assert len(users.keepers()) == 1


@pytest.mark.slow
def test_the_last_one_out_stops_it(users: Users) -> None:
    first, second = users.come(), users.come()
    pids = {user.ask("SELECT pg_postmaster_start_time()") for user in (first, second)}
    assert len(pids) == 1
    first.leave()
    time.sleep(keeper.LINGER_SECONDS + 0.5)
    assert second.ask("SELECT 1") == "1"
    assert users.server_runs()
    second.leave()
    eventually(lambda: not users.server_runs())
    assert "database system is shut down" in (users.place.home / "server.log").read_text()


@pytest.mark.slow
def test_a_killed_last_user_stops_it_too(users: Users) -> None:
    user = users.come()
    user.ask("SELECT 1")
    user.process.kill()
    eventually(lambda: not users.server_runs())


@pytest.mark.slow
def test_a_forked_child_counts_as_a_user(users: Users) -> None:
    code = (
        "import os, sys, time\nfrom pathlib import Path\nfrom config import embedded\n"
        "embedded.attach(Path(sys.argv[1]), major=int(sys.argv[2]))\n"
        "if os.fork() == 0:\n    sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, users.data_dir, str(MAJOR)], stdin=subprocess.PIPE, cwd=CODE
    )
    with process:
        process.wait(30)
        time.sleep(keeper.LINGER_SECONDS + 0.5)
        assert users.server_runs()
    eventually(lambda: not users.server_runs())


@pytest.mark.slow
def test_a_killed_postmaster_comes_back_and_keeps_what_was_confirmed(users: Users) -> None:
    user = users.come()
    user.ask("SELECT 1")
    server = embedded.attach(users.data_dir, major=MAJOR)
    with psycopg.connect(**server.login(keeper.OWNER), dbname="datapusher", autocommit=True) as owner:
        owner.execute("CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n")
        owner.execute("GRANT SELECT ON kept TO datapusher")
        embedded.release(users.data_dir, major=MAJOR, wait_seconds=0)
        for _ in range(2):
            killed = users.postmaster()
            os.kill(killed, signal.SIGKILL)
            eventually(lambda killed=killed: users.postmaster() not in {0, killed})
            eventually(lambda: user.ask("SELECT count(*) FROM kept") == "1000")


@pytest.mark.slow
def test_an_orphan_backend_does_not_keep_it_down(users: Users, superuser: psycopg.Connection[Any]) -> None:
    busy = "DO $$ BEGIN LOOP END LOOP; END $$"  # never looks up from its work
    superuser.pgconn.send_query(busy.encode())
    time.sleep(0.2)
    killed = users.postmaster()
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: users.come().ask("SELECT 1") == "1")
    assert users.postmaster() != killed


@pytest.mark.slow
def test_a_killed_keeper_leaves_no_orphan_and_is_replaced(users: Users) -> None:
    user = users.come()
    user.ask("SELECT 1")
    [first], before = users.keepers(), users.postmaster()
    os.kill(first, signal.SIGKILL)
    eventually(lambda: before not in keeper.processes_in(users.place.home / "data"))
    assert "received fast shutdown request" in (users.place.home / "server.log").read_text()
    eventually(lambda: user.ask("SELECT 1") == "1")
    [second] = users.keepers()
    assert second != first


@pytest.mark.slow
def test_everything_killed_at_once_recovers(users: Users) -> None:
    user = users.come()
    user.ask("SELECT 1")
    for pid in (*users.keepers(), *keeper.processes_in(users.place.home / "data")):
        with contextlib.suppress(ProcessLookupError):  # one that ended with the one before
            os.kill(pid, signal.SIGKILL)
    eventually(lambda: user.ask("SELECT 1") == "1")


def test_a_pid_that_is_a_strangers_by_now_is_no_server(users: Users) -> None:
    user = users.come()
    user.ask("SELECT 1")
    file = users.place.home / "data" / "postmaster.pid"
    content = file.read_text()
    user.leave()
    eventually(lambda: not users.server_runs())
    file.write_text(content.replace(content.split("\n")[0], str(os.getpid()), 1))
    assert users.come().ask("SELECT 1") == "1"


@pytest.mark.slow
def test_an_unfinished_first_start_is_begun_anew(users: Users) -> None:
    leftover = users.place.root / "new.12345"
    leftover.mkdir(parents=True)
    (leftover / "PG_VERSION").write_text("18")
    assert users.come().ask("SELECT 1") == "1"
    assert not leftover.exists()


@pytest.mark.slow
def test_a_deleted_folder_is_made_anew(users: Users) -> None:
    user = users.come()
    before = user.ask("SELECT system_identifier FROM pg_control_system()")
    users.data_dir.rename(users.data_dir.with_name("moved"))
    assert user.ask("SELECT system_identifier FROM pg_control_system()") != before
    eventually(lambda: len(users.keepers()) == 1)


def test_a_path_too_long_for_a_socket_works(tmp_path: Path) -> None:
    with ExitStack() as stack:
        users = Users(tmp_path / ("x" * 60) / ("y" * 60), stack)
        assert users.come().ask("SELECT 1") == "1"
        folder = Path(json.loads(users.place.state.read_text())["host"])
        assert len(str(folder)) < 60
        assert folder.stat().st_mode & 0o077 == 0
    folder.rmdir()


@pytest.mark.slow
def test_an_odd_path_works(tmp_path: Path) -> None:
    with ExitStack() as stack:
        users = Users(tmp_path / 'it\'s, "odd" ü %s', stack)
        assert users.come().ask("SELECT 1") == "1"


@pytest.mark.slow
def test_secrets_are_for_the_owner_alone_and_passwords_are_asked(users: Users) -> None:
    users.come().ask("SELECT 1")
    server = embedded.attach(users.data_dir, major=MAJOR)
    assert users.place.passwords.stat().st_mode & 0o077 == 0
    assert Path(server.host).stat().st_mode & 0o077 == 0
    for password in ({}, {"password": "guessed"}):
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(host=server.host, user="postgres", dbname="postgres", **password)
    embedded.release(users.data_dir, major=MAJOR, wait_seconds=0)


def test_the_roles_are_what_they_should_be(superuser: psycopg.Connection[Any]) -> None:
    rows = superuser.execute(
        "SELECT rolname, rolsuper, rolcreatedb, rolcreaterole FROM pg_roles WHERE rolcanlogin ORDER BY 1"
    ).fetchall()
    assert rows == [
        ("datapusher", False, False, False),
        ("datapusher_owner", False, True, False),
        ("postgres", True, True, True),
    ]
    owner = superuser.execute(
        "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'datapusher'"
    ).fetchone()
    assert owner == ("datapusher_owner",)


def test_it_is_durable_and_hears_no_network(superuser: psycopg.Connection[Any]) -> None:
    wanted = {
        "fsync": "on",
        "full_page_writes": "on",
        "synchronous_commit": "on",
        "data_checksums": "on",
        "listen_addresses": "",
        "server_encoding": "UTF8",
    }
    rows = superuser.execute("SELECT name, setting FROM pg_settings WHERE name = ANY(%s)", [list(wanted)])
    assert dict(rows.fetchall()) == wanted


def test_its_log_is_private_and_keeps_no_values(users: Users, superuser: psycopg.Connection[Any]) -> None:
    superuser.execute("CREATE TABLE person (email text UNIQUE, age int CHECK (age > 0))")
    statement = "INSERT INTO person VALUES ('canary@people.example.com', %d)"
    superuser.execute(statement % 1)
    for age, constraint in ((2, "person_email_key"), (-3, "person_age_check")):
        with pytest.raises(psycopg.errors.IntegrityError, match=constraint):
            superuser.execute(statement % age)
    log = users.place.home / "server.log"
    eventually(lambda: "person_age_check" in log.read_text())
    assert "canary" not in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600


@as_root
@pytest.mark.slow
def test_root_may_use_a_folder_closed_to_everybody_else(users: Users) -> None:
    users.data_dir.mkdir(mode=0o700)
    assert users.come().ask("SELECT 1") == "1"
    files = [path for path in users.place.root.rglob("*") if not path.is_symlink()]
    assert {path.stat().st_uid for path in files} == {0}


@as_root
@pytest.mark.slow
def test_an_ordinary_user_needs_nothing_special() -> None:
    """As `nobody`, in this very interpreter (another might be out of its reach) with reachable binaries."""
    folder = Path("/var/tmp") / f"data-pusher-test-{os.getpid()}"  # tmp_path is closed to others
    folder.mkdir(mode=0o700)
    os.chown(folder, keeper.NOBODY, keeper.NOBODY)
    with ExitStack() as stack:
        stack.callback(subprocess.run, ["rm", "-r", folder], check=True)
        users = Users(folder / "data", stack)
        binaries = keeper.reachable(embedded._binaries(MAJOR), folder)
        users.place.root.mkdir(parents=True)
        os.chown(users.place.root, keeper.NOBODY, keeper.NOBODY)
        code = (
            "import sys\nfrom config import keeper\nkeeper.as_user(keeper.NOBODY).become()\n"
            "sys.exit(keeper.main(*sys.argv[1:]))"
        )
        subprocess.run([sys.executable, "-c", code, users.place.root, binaries], cwd=CODE, check=True)
        # The test is root, who may use the folder of another, and its server goes on as that other.
        assert users.come().ask("SELECT 1") == "1"
        assert (users.place.root / "data").stat().st_uid == keeper.NOBODY


@as_root
@pytest.mark.slow
def test_root_without_namespaces_runs_it_as_nobody(users: Users) -> None:
    """As in some containers."""
    user = users.come(prelude=SHUT_IN)
    assert user.answer() == "in"
    for kind in ("uid_map", "gid_map"):
        Path(f"/proc/{user.process.pid}/{kind}").write_text("0 0 100000")
    assert user.ask("go on") == "shut"
    assert user.ask("SELECT 1") == "1"
    home = users.place.home
    assert home.is_relative_to(keeper.OWN_FOLDER)
    assert (home / "data").stat().st_uid == keeper.NOBODY
    assert "as nobody" in users.place.log.read_text()
    user.leave()
    eventually(lambda: not users.server_runs())
    # Namespaces are allowed again: the data stays where, and whose, it is.
    assert users.come().ask("SELECT 1") == "1"
    users.stack.callback(subprocess.run, ["rm", "-r", home], check=True)
