"""What did it cost? CPU seconds and memory of every process, by its kind, while something is measured.

    with Watch(deployment, receiver=receiver.pid) as watch:
        ...
    watch.per_event(10_000)   # {"web": 41.0, "postgres": 88.2, ...} microseconds
    watch.memory              # {"web": 96.1, ...} MB, of the largest process of each kind at its largest

CPU is exact: the kernel adds what a process' children used to it when it waits for them, so a tree's total is
the sum over those alive, whoever came and went. Memory is looked at a few times a second. It is the resident
size (RSS); of PostgreSQL only the part that is its own, since each of its processes counts the shared buffers
that it has touched as resident. `load` is this process and what it ran and waited for meanwhile, as wrk.
"""

import contextlib
import os
import threading
from collections.abc import Iterable, Mapping
from typing import Protocol, Self

import psutil

LOOK_SECONDS = 0.2
FIND_LOOKS = 15  # new processes are looked for at each fifteenth look: that reads all of /proc
LOAD = "load"
OWN_MEMORY_ONLY = "postgres"


class Deployed(Protocol):
    def kinds(self) -> Mapping[str, Iterable[psutil.Process]]: ...


class Watch:
    """Between enter and exit; the roots must live until the exit, their children may come and go."""

    def __init__(self, deployed: Deployed | None = None, /, **pids: int) -> None:
        kinds = deployed.kinds() if deployed is not None else {}
        self._roots = {kind: list(roots) for kind, roots in kinds.items()}
        self._roots |= {kind: [psutil.Process(pid)] for kind, pid in pids.items()}
        self._done = threading.Event()
        self._looking = threading.Thread(target=self._look_on, name="watch", daemon=True)
        self.cpu: dict[str, float] = {}
        self.memory: dict[str, float] = {}

    def __enter__(self) -> Self:
        self._before = self._cpu_seconds()
        self._looking.start()
        return self

    def __exit__(self, *_: object) -> None:
        after = self._cpu_seconds()
        self._done.set()
        self._looking.join()
        self._look(self._trees())
        self.cpu = {kind: after[kind] - before for kind, before in self._before.items()}

    def per_event(self, events: float) -> dict[str, float]:
        """Microseconds of CPU by kind."""
        return {kind: seconds * 1e6 / events for kind, seconds in self.cpu.items()} if events else {}

    def _cpu_seconds(self) -> dict[str, float]:
        own = os.times()
        seconds = {LOAD: own.user + own.system + own.children_user + own.children_system}
        for kind, tree in self._trees().items():
            seconds[kind] = sum(_cpu_seconds(process) for process in tree)
        return seconds

    def _trees(self) -> dict[str, list[psutil.Process]]:
        return {kind: [one for root in roots for one in _tree(root)] for kind, roots in self._roots.items()}

    def _look_on(self) -> None:
        looks = 0
        while not self._done.wait(LOOK_SECONDS):
            if looks % FIND_LOOKS == 0:
                trees = self._trees()
            looks += 1
            self._look(trees)

    def _look(self, trees: Mapping[str, Iterable[psutil.Process]]) -> None:
        for kind, tree in trees.items():
            largest = max((_megabytes(process, kind) for process in tree), default=0.0)
            self.memory[kind] = max(self.memory.get(kind, 0.0), largest)


def _tree(root: psutil.Process) -> list[psutil.Process]:
    try:
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _cpu_seconds(process: psutil.Process) -> float:
    """Its own, and that of the children that it has waited for."""
    with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        return sum(process.cpu_times()[:4])
    return 0.0


def _megabytes(process: psutil.Process, kind: str) -> float:
    with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        memory = process.memory_info()
        shared = getattr(memory, "shared", 0) if kind == OWN_MEMORY_ONLY else 0
        return float(memory.rss - shared) / 1e6
    return 0.0
