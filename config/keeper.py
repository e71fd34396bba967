"""Who keeps the embedded PostgreSQL alive? One detached process per data folder: the keeper.

It makes the database on first use, is PostgreSQL's parent, starts it again when it dies, and stops it when
the last user is gone. Everybody's hold on it is an advisory lock on a file (flock), which the kernel takes
back however a process ends: users share `users.lock`, the keeper owns `keeper.lock`. It knows nothing of
Django and needs the standard library alone: `config.embedded` starts it.
"""

import ctypes
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SUPERUSER, OWNER, APPLICATION = "postgres", "datapusher_owner", "datapusher"
DATABASE = "datapusher"
PORT = 5432
SOCKET_PATH_BYTES = 107
LINGER_SECONDS = 0.5  # commands that follow one another needn't start the server each time
STOP_SECONDS = 60
ORPHAN_SECONDS = 2
LOG_BYTES = 5_000_000
TAKEN = 75  # exit status: another keeper is at it
NOBODY = 65534
OWN_FOLDER = Path("/var/lib/data-pusher")  # where `nobody` can reach, when namespaces are denied

# Durable: what was answered with 2xx is on disk. The rest keeps it small. ALTER SYSTEM overrides.
SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "port": str(PORT),
    "max_connections": "200",
    "authentication_timeout": "10s",  # whoever never answers holds up every DROP DATABASE for so long
    "shared_buffers": "128MB",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "min_wal_size": "32MB",
    # Soon after a checkpoint each page is logged whole: under load they should be minutes apart, not seconds.
    # (Without load the log shrinks again.)
    "max_wal_size": "2GB",
    "autovacuum_naptime": "15s",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    # Neither a failed statement nor its DETAIL ("Key (email)=(...)") is written: both carry people's values.
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
    "log_line_prefix": "%m [%p] %u@%d ",
}


@dataclass(frozen=True)
class Place:
    """The folder of one embedded server, and the files by which its users and its keeper agree."""

    root: Path

    @property
    def users(self) -> Path:
        return self.root / "users.lock"

    @property
    def keeper(self) -> Path:
        return self.root / "keeper.lock"

    @property
    def starting(self) -> Path:
        return self.root / "starting.lock"

    @property
    def state(self) -> Path:
        return self.root / "state.json"

    @property
    def passwords(self) -> Path:
        return self.root / "passwords.json"

    @property
    def log(self) -> Path:
        return self.root / "keeper.log"

    @property
    def home(self) -> Path:
        """PostgreSQL's own files: here, or behind a link where `nobody` can reach them."""
        link = self.root / "home"
        return link.readlink() if link.is_symlink() else self.root


@dataclass(frozen=True)
class Person:
    """As whom PostgreSQL runs, which refuses to be root."""

    uid: int
    become: Callable[[], None]


@dataclass
class Keeper:
    place: Place
    binaries: Path
    users: int
    own_lock: int
    person: Person = field(init=False)
    failures: int = 0
    idle_since: float | None = None
    told_to_end: bool = False

    def run(self) -> None:
        signal.signal(signal.SIGTERM, self.end)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            self.tell("starting")
            self.person, self.binaries = settle(self.place, self.binaries)
            make(self)
            while not self.serve():
                self.pause()
        except (OSError, subprocess.SubprocessError) as error:
            say(f"giving up: {error}")
            self.tell("failed", detail=str(error))
            return
        self.place.state.unlink(missing_ok=True)

    def end(self, *_: object) -> None:
        self.told_to_end = True

    def serve(self) -> bool:
        """One life of PostgreSQL. True when it isn't needed any more."""
        wait_for_others(self.data)
        disown(self.data, self.socket_folder)
        write_settings(self.place.home, self.socket_folder, self.person)
        process = self.spawn([self.binaries / "postgres", "-D", self.data], signal.SIGINT)
        began = time.monotonic()
        over = self.watch(process)
        if not over:
            say(f"PostgreSQL ended by itself with status {process.returncode}")
            self.failures = 0 if time.monotonic() - began > 30 else self.failures + 1
            self.tell(
                "starting" if self.failures < 8 else "failing", detail=tail(self.place.home / "server.log")
            )
        return over

    def watch(self, process: subprocess.Popen[bytes]) -> bool:
        ready = False
        while process.poll() is None:
            if not ready and is_ready(self.data, process.pid):
                ready = True
                self.tell("ready", host=str(self.socket_folder))
            if self.unneeded():
                stop(process)
                return True
            time.sleep(0.1 if ready else 0.02)
        return False

    def pause(self) -> None:
        # The first death is mended at once, a server that keeps dying ever more slowly.
        until = time.monotonic() + (min(0.05 * 2**self.failures, 10) if self.failures > 1 else 0)
        while time.monotonic() < until and not self.unneeded():
            time.sleep(0.05)

    def unneeded(self) -> bool:
        if self.told_to_end or not is_same_file(self.own_lock, self.place.keeper):
            return True  # also when the folder was deleted, and maybe made anew, under our feet
        if not lock(self.users, fcntl.LOCK_EX):
            self.idle_since = None
            return False
        now = time.monotonic()
        self.idle_since = now if self.idle_since is None else self.idle_since
        if now - self.idle_since >= LINGER_SECONDS:
            return True  # with the lock in hand: a new user waits until we are gone
        fcntl.flock(self.users, fcntl.LOCK_UN)
        return False

    def tell(self, status: str, *, host: str = "", detail: str = "") -> None:
        write(self.place.state, json.dumps({"status": status, "host": host, "detail": detail}))

    def spawn(
        self, command: list[str | Path], death: signal.Signals, **options: Any
    ) -> subprocess.Popen[bytes]:
        """A child that is never left behind: when the keeper dies, even by kill -9, it gets the signal."""
        keeper, become = os.getpid(), self.person.become

        def prepare() -> None:
            os.umask(0o077)
            become()
            die_with(keeper, death)

        log = self.place.home / "server.log"
        if log.exists() and log.stat().st_size > LOG_BYTES:
            log.replace(log.with_suffix(".log.1"))
        with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as out:
            os.fchmod(out.fileno(), 0o600)  # an earlier life may have made it otherwise
            return subprocess.Popen(  # noqa: S603 - the wheel's binaries, our arguments
                command,
                stdout=out,
                stderr=out,
                cwd="/",
                env={"LC_ALL": "C", "PATH": os.defpath},
                preexec_fn=prepare,  # noqa: PLW1509 - this process has one thread
                **{"stdin": subprocess.DEVNULL, **options},
            )

    def run_once(self, command: list[str | Path], stdin: str = "") -> None:
        process = self.spawn(command, signal.SIGKILL, stdin=subprocess.PIPE)
        process.communicate(stdin.encode())
        if process.returncode:
            name, log = Path(command[0]).name, self.place.home / "server.log"
            raise OSError(f"{name} ended with status {process.returncode}: {tail(log)}")

    @property
    def data(self) -> Path:
        return self.place.home / "data"

    @property
    def socket_folder(self) -> Path:
        return socket_folder(self.place.home, self.person)


# --- as whom ------------------------------------------------------------------------------------------------


def settle(place: Place, binaries: Path) -> tuple[Person, Path]:
    """Who runs PostgreSQL, with which binaries. The owner of existing data stays the owner."""
    data = place.home / "data"
    if os.geteuid() != 0:
        return Person(os.geteuid(), lambda: None), binaries
    if data.exists() and (uid := data.stat().st_uid) != 0:
        return as_user(uid), reachable(binaries, place.home) if uid == NOBODY else binaries
    if namespaces_allowed():
        return Person(0, enter_namespace), binaries
    if data.exists():
        raise OSError(
            f"{data} belongs to root, and PostgreSQL may run as root only in a user namespace (denied here)"
        )
    home = own_home(place)
    say(f"user namespaces are denied here: PostgreSQL runs as nobody, its files are in {home}")
    return as_user(NOBODY), reachable(binaries, home)


def as_user(uid: int) -> Person:
    def become() -> None:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)

    return Person(uid, become)


def enter_namespace() -> None:
    """Root calls itself nobody: files stay root's, folders may be closed to everybody else."""
    uid, gid = os.geteuid(), os.getegid()
    os.unshare(os.CLONE_NEWUSER)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{NOBODY} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{NOBODY} {gid} 1")


def namespaces_allowed() -> bool:
    pid = os.fork()
    if pid == 0:
        try:
            enter_namespace()
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1] == 0


def own_home(place: Place) -> Path:
    home = OWN_FOLDER / hashlib.sha256(os.fsencode(place.root)).hexdigest()[:16]
    OWN_FOLDER.mkdir(parents=True, exist_ok=True)
    OWN_FOLDER.chmod(0o755)
    home.mkdir(exist_ok=True, mode=0o700)
    os.chown(home, NOBODY, NOBODY)
    link = place.root / "home"
    if not link.is_symlink():
        link.symlink_to(home)
    return home


def reachable(binaries: Path, home: Path) -> Path:
    """A copy of the binaries, with the libraries that the wheel puts beside its package."""
    install, package = binaries.parent, binaries.parent.parent
    copy = home / "wheel" / package.name / install.name / binaries.name
    if copy.exists():
        return copy
    draft = home / f"new.{os.getpid()}-wheel"
    shutil.copytree(install, draft / package.name / install.name, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, draft / libraries.name, symlinks=True)
    for path in (draft, *draft.rglob("*")):
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    draft.rename(home / "wheel")
    return copy


def die_with(keeper: int, death: signal.Signals) -> None:
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(1, int(death))  # PR_SET_PDEATHSIG; after become(), which clears it
    if os.getppid() != keeper:
        os._exit(1)


# --- the files ----------------------------------------------------------------------------------------------


def make(keeper: Keeper) -> None:
    """The database and its roles on first use; whole or not at all: the last step renames it into place."""
    home = keeper.place.home
    for leftover in home.glob("new.*"):
        shutil.rmtree(leftover, ignore_errors=True)
    if keeper.data.exists():
        return
    say(f"making the database in {home}")
    draft = home / f"new.{os.getpid()}"
    passwords = {role: secrets.token_urlsafe(24) for role in (SUPERUSER, OWNER, APPLICATION)}
    initdb: list[str | Path] = [
        keeper.binaries / "initdb",
        "-D",
        draft,
        "-U",
        SUPERUSER,
        "-E",
        "UTF8",
        "-A",
        "trust",
    ]
    locale = ["--no-locale", "--data-checksums", "--no-instructions"]
    if "pginstall18" in keeper.binaries.parts:
        locale += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    keeper.run_once([*initdb, *locale])
    postgres: list[str | Path] = [
        keeper.binaries / "postgres",
        "--single",
        "-D",
        draft,
        "-c",
        "exit_on_error=on",
    ]
    keeper.run_once([*postgres, "postgres"], stdin=roles(passwords))
    write(draft / "pg_hba.conf", "local all all scram-sha-256\n", uid=keeper.person.uid)
    with (draft / "postgresql.conf").open("a") as conf:
        conf.write(
            "\n# What the program asks for; ALTER SYSTEM overrides.\ninclude_if_exists = '../server.conf'\n"
        )
    write(keeper.place.passwords, json.dumps(passwords))
    draft.rename(keeper.data)


def roles(passwords: dict[str, str]) -> str:
    return (
        f"ALTER ROLE {SUPERUSER} PASSWORD '{passwords[SUPERUSER]}'\n"
        f"CREATE ROLE {OWNER} LOGIN CREATEDB PASSWORD '{passwords[OWNER]}'\n"
        f"CREATE ROLE {APPLICATION} LOGIN PASSWORD '{passwords[APPLICATION]}'\n"
        f"GRANT {APPLICATION} TO {OWNER}\n"  # who may end the application's sessions
        f"CREATE DATABASE {DATABASE} OWNER {OWNER}\n"
    )


def write_settings(home: Path, sockets: Path, person: Person) -> None:
    lines = [f"{name} = '{value}'\n" for name, value in SETTINGS.items()]
    write(home / "server.conf", "".join([*lines, f"unix_socket_directories = '{sockets}'\n"]), uid=person.uid)


def socket_folder(home: Path, person: Person) -> Path:
    """Beside the data, or in a private temporary folder when that path is too long (or odd) for a socket."""
    folder = home / "run"
    socket = os.fsencode(folder / f".s.PGSQL.{PORT}")
    plain = all(byte in b"/_-." or chr(byte).isalnum() for byte in socket)
    if len(socket) > SOCKET_PATH_BYTES or not plain:
        name = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
        folder = Path(tempfile.gettempdir()) / f"data-pusher-{person.uid}-{name}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        os.chown(folder, person.uid, -1)
    found = folder.lstat()
    if folder.is_symlink() or found.st_uid != person.uid or found.st_mode & 0o077:
        raise OSError(f"{folder} isn't a private folder of ours: remove it")
    return folder


def disown(data: Path, sockets: Path) -> None:
    """A crash leaves pid files, and the pid may be a stranger's now, whom PostgreSQL would take for its like.

    Nobody of ours is running (see wait_for_others), so the pid becomes ours: PostgreSQL takes its parent's
    pid for stale, and goes on to check the old one's shared memory, which it wouldn't without the file.
    """
    file = data / "postmaster.pid"
    if file.exists():
        _, _, rest = file.read_text().partition("\n")
        file.write_text(f"{os.getpid()}\n{rest}")
    (sockets / f".s.PGSQL.{PORT}.lock").unlink(missing_ok=True)


def is_ready(data: Path, pid: int) -> bool:
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except OSError:
        return False
    return len(lines) > 7 and lines[0] == str(pid) and lines[7].strip() == "ready"


# --- processes ----------------------------------------------------------------------------------------------


def stop(process: subprocess.Popen[bytes]) -> None:
    """Fast: sessions end, what is committed is flushed. Harder if that takes too long: it would recover."""
    for last, patience in ((signal.SIGINT, STOP_SECONDS), (signal.SIGQUIT, 10), (signal.SIGKILL, 10)):
        process.send_signal(last)
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            continue
        return


def wait_for_others(data: Path) -> None:
    """Processes of an earlier life: backends whose postmaster was killed, or a server whose keeper was."""
    began = time.monotonic()
    while others := processes_in(data):
        waited = time.monotonic() - began
        main = postmaster(data)
        if main in others:
            signal_all([main], signal.SIGINT if waited < STOP_SECONDS else signal.SIGQUIT)
        elif waited > ORPHAN_SECONDS:
            signal_all(others, signal.SIGKILL)  # no postmaster, nothing of theirs will ever be committed
        time.sleep(0.05)


def processes_in(data: Path) -> list[int]:
    """PostgreSQL's processes work in the data folder, so that is how to tell them from strangers."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (entry / "comm").read_text().strip() == "postgres" and (entry / "cwd").samefile(data):
                found.append(int(entry.name))
    return found


def postmaster(data: Path) -> int:
    try:
        return int((data / "postmaster.pid").read_text().partition("\n")[0])
    except (OSError, ValueError):
        return 0


def signal_all(pids: list[int], which: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, which)


# --- small things -------------------------------------------------------------------------------------------


def lock(file: int, how: int) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_same_file(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def write(path: Path, text: str, *, uid: int | None = None) -> None:
    """Whole or not at all, private, and the folder's owner's."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    if os.geteuid() == 0:
        os.chown(draft, path.parent.stat().st_uid if uid is None else uid, -1)
    draft.replace(path)


def tail(log: Path) -> str:
    try:
        return " | ".join(log.read_text(errors="replace").splitlines()[-3:])
    except OSError:
        return "no log"


def say(line: str) -> None:
    print(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), line, flush=True)  # noqa: T201 - keeper.log


def main(root: str, binaries: str) -> int:
    place = Place(Path(root))
    own = os.open(place.keeper, os.O_RDWR | os.O_CREAT, 0o600)
    # Others probe this lock for an instant each time they connect.
    until = time.monotonic() + 2
    while not lock(own, fcntl.LOCK_EX):
        if time.monotonic() > until:
            return TAKEN
        time.sleep(0.01)
    users = os.open(place.users, os.O_RDWR | os.O_CREAT, 0o600)
    if os.fork():
        return 0  # whoever started us needn't wait for us; the lock is the child's now
    os.chdir("/")
    Keeper(place=place, binaries=Path(binaries), users=users, own_lock=own).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
