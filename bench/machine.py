"""Where did it run, and what of? What a figure is worth nothing without."""

import os
import platform
import shutil
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = ("django", "granian", "uvloop", "aiohttp", "orjson", "psycopg")


def facts(folder: Path) -> dict[str, str]:
    return {
        "CPU": _cpu(),
        "cores": str(psutil.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GB",
        "file system": _file_system(folder),
        "kernel": f"{platform.system()} {platform.release()}",
        "system": _system(),
    }


def versions() -> dict[str, str]:
    product = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    known = {"Data Pusher": product, "Python": platform.python_version()}
    return known | {name: metadata.version(name) for name in LIBRARIES} | {"wrk": _wrk()}


def commit() -> str:
    """With a + when the tree had changes."""
    try:
        name = _said("git", "rev-parse", "--short=9", "HEAD")
        return name + ("+" if _said("git", "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _said(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def _cpu() -> str:
    with_name = Path("/proc/cpuinfo")
    lines = with_name.read_text().splitlines() if with_name.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _file_system(folder: Path) -> str:
    """Durable commits mean something else on a tmpfs."""
    mounts = [one for one in psutil.disk_partitions(all=True) if folder.is_relative_to(one.mountpoint)]
    return max(mounts, key=lambda one: len(one.mountpoint)).fstype if mounts else "unknown"


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.platform()


def _wrk() -> str:
    """`wrk debian/4.1.0-3+b2 [epoll] Copyright ...`; it ends with status 1."""
    if shutil.which("wrk") is None:
        return "none"
    said = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False)
    words = f"{said.stdout}{said.stderr}".split()
    return words[1] if len(words) > 1 else "unknown"


def load_average() -> float:
    return os.getloadavg()[0]
