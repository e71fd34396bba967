"""What does the demo remember from one start to the next? Its logins, and the address of its receiver.

One private file, `DATA_DIR/secrets/demo.env`, which a shell can read too.
Plain: `manage.py up` asks for the receiver's port before anything else runs.
"""

import os
import random
import shlex
import socket
from collections.abc import Mapping
from pathlib import Path

from guard import urls

HOST = "127.0.0.1"
PORT = "DEMO_RECEIVER_PORT"


def path(data_dir: Path) -> Path:
    return data_dir / "secrets" / "demo.env"


def read(data_dir: Path) -> dict[str, str]:
    """Everything that is kept; empty before the first start."""
    try:
        lines = path(data_dir).read_text().splitlines()
    except FileNotFoundError:
        return {}
    pairs = (line.partition("=") for line in lines if "=" in line)
    return {name: "".join(shlex.split(value)) for name, _, value in pairs}


def write(data_dir: Path, values: Mapping[str, str]) -> None:
    """Replaces the whole file, readable by its owner alone; a crash leaves the old one or the new one."""
    place = path(data_dir)
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = place.with_name(f".{place.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    draft.write_text("".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items()))
    draft.replace(place)


def choose_receiver_port(data_dir: Path) -> int:
    """The port of the last time if nobody else has taken it since, otherwise a free one, kept from now on."""
    kept = read(data_dir)
    if kept.get(PORT, "").isdecimal() and _is_free(int(kept[PORT])):
        return int(kept[PORT])
    port = _free_port()
    write(data_dir, kept | {PORT: str(port)})
    return port


def receiver_port(data_dir: Path) -> int:
    """The port that was chosen, taken or not: web and workers were told to let this one be dialled."""
    kept = read(data_dir)
    return int(kept[PORT]) if kept.get(PORT, "").isdecimal() else choose_receiver_port(data_dir)


def _free_port() -> int:
    """Below what systems give to connections that go out, lest one of those takes it meanwhile."""
    while True:
        port = random.randrange(20_000, 32_000)  # noqa: S311 - it guards nothing
        if port not in urls.DENIED_PORTS and _is_free(port):
            return port


def _is_free(port: int) -> bool:
    try:
        with socket.create_server((HOST, port)):
            return True
    except OSError:
        return False
