"""How does Django-Q2's cluster start and stop without its traps?

Each of them was seen live; the ADR on Django-Q2 tells.

    main (this command) - sentinel - workers (drains), monitor, pusher

- A signal only sets a flag here. Q2's own handler stops the cluster inside the handler and may deadlock
  (its issue 346).
- The children block SIGTERM, SIGINT and SIGHUP: a signal to the whole group (Ctrl-C, systemd's default) would
  end the sentinel and leave main waiting for it. They end by the word of main. Workers take SIGTERM as a wish
  to stop.
- If main is killed, the kernel kills its children, and theirs: no orphans go on sending.
- Q2's tables may be truncated, its tasks lost, a queue's lock held by a process that was killed: main looks
  each few seconds that every slot is taken, and starts itself anew when asking for drains does not help.
"""

import ctypes
import logging
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

from django.conf import settings
from django.db import connections
from django_q.cluster import Cluster
from django_q.conf import Conf
from django_q.signals import post_execute_in_worker, post_spawn

from outbox import slots, tasks
from outbox.checks import SPARE_WORKERS
from outbox.worker import stopping

logger = logging.getLogger("outbox.worker")

LOOK_SECONDS = 2.0
ASK_AGAIN_SECONDS = 6.0
STUCK_SECONDS = 30.0
SHORT_LIFE_SECONDS = 10.0
PR_SET_PDEATHSIG = 1
_GROUP_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


class WorkerCluster(Cluster):
    quit = False
    sentinel: Any

    def sig_handler(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the base's signature
        self.quit = True

    def is_alive(self) -> bool:
        return bool(self.sentinel is not None and self.sentinel.is_alive())

    def stop_within(self, seconds: float) -> bool:
        """Q2's stop has no deadline of its own, and waits for locks that a killed process may hold."""
        stopping.tell()
        thread = threading.Thread(target=self.stop, name="stop", daemon=True)
        thread.start()
        thread.join(seconds)
        return not thread.is_alive()

    def kill(self) -> None:
        if self.sentinel is not None:
            self.sentinel.kill()
            self.sentinel.join(SHORT_LIFE_SECONDS)


class Watch(threading.Thread):
    """Sees that every slot has its drain. In a thread: a database that is away must not delay a signal."""

    def __init__(self) -> None:
        super().__init__(name="watch", daemon=True)
        self.stuck = False
        self._free_since: dict[int, float] = {}
        self._asked: dict[int, float] = {}
        self._complained = -60.0

    def run(self) -> None:
        while True:
            try:
                self.look(time.monotonic())
            except Exception as error:  # noqa: BLE001 - it must outlive everything
                self._free_since.clear()
                self._complain(error)
                connections.close_all()
            time.sleep(LOOK_SECONDS)

    def look(self, now: float) -> None:
        tasks.ensure_schedules()
        free = slots.free(settings.DRAIN_SLOTS)
        self._free_since = {slot: self._free_since.get(slot, now) for slot in free}
        for slot in free:
            self._ask(slot, now)
        self.stuck = any(now - since > STUCK_SECONDS for since in self._free_since.values())

    def _ask(self, slot: int, now: float) -> None:
        if slot not in self._asked:
            tasks.enqueue_drain(slot, tasks.first_run_seconds(slot))
        elif now - self._asked[slot] >= ASK_AGAIN_SECONDS:
            tasks.enqueue_drain(slot)
        else:
            return
        self._asked[slot] = now

    def _complain(self, error: Exception) -> None:
        if time.monotonic() - self._complained >= 60:
            self._complained = time.monotonic()
            logger.warning("Looking after the drains failed: %s", type(error).__name__)


def serve() -> int:
    """Run until told to stop; the exit status. May replace this process by a fresh one (same pid)."""
    began = time.monotonic()
    _suit_connections()
    _bring_up_children_well()
    Conf.WORKERS = settings.DRAIN_SLOTS + SPARE_WORKERS
    Conf.QUEUE_LIMIT = Conf.WORKERS**2
    cluster = WorkerCluster()
    signal.signal(signal.SIGHUP, cluster.sig_handler)
    try:
        cluster.start()
    except RuntimeError as error:  # the sentinel died at once
        logger.error("%s", error)  # noqa: TRY400 - its own words are enough
        return 1
    ailment = _until_asked_or_ailing(cluster)
    if ailment is None:
        return _end(cluster)
    logger.error("The cluster %s; it is started anew", ailment)
    cluster.kill()
    return _start_anew(lived=time.monotonic() - began)


def _until_asked_or_ailing(cluster: WorkerCluster) -> str | None:
    watch = Watch()
    watch.start()
    while not cluster.quit:
        if not cluster.is_alive():
            return "died"
        if watch.stuck:
            return f"left a slot empty for {STUCK_SECONDS:g} s"
        time.sleep(0.1)
    return None


def _end(cluster: WorkerCluster) -> int:
    if cluster.stop_within(settings.SHUTDOWN_GRACE_SECONDS - 1):
        return 0
    logger.error("The cluster did not stop within %d s; it is killed", settings.SHUTDOWN_GRACE_SECONDS)
    cluster.kill()
    return 1


def _start_anew(*, lived: float) -> int:
    """Threads and half-held locks don't survive exec, which is the point: a fork would inherit them."""
    if lived < SHORT_LIFE_SECONDS:
        return 1  # whoever supervises us pauses longer and longer
    sys.stdout.flush()
    sys.stderr.flush()
    return os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - our own command line


def _suit_connections() -> None:
    """Kept open (Q2 asks for one per broker call), and without a pool, whose threads don't survive a fork."""
    database = connections.settings["default"]
    database["CONN_MAX_AGE"] = None
    database["OPTIONS"].pop("pool", None)
    connections.close_all()


# --- the children ---


def _bring_up_children_well() -> None:
    os.register_at_fork(before=_remember_parent, after_in_child=_begin_child)
    post_spawn.connect(_begin_worker, dispatch_uid="outbox.begin_worker")
    post_execute_in_worker.connect(_end_condemned_worker, dispatch_uid="outbox.end_condemned_worker")


_libc = ctypes.CDLL(None) if sys.platform == "linux" else None
_parent = 0


def _remember_parent() -> None:
    global _parent  # noqa: PLW0603 - one parent per process
    _parent = os.getpid()


def _begin_child() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, _GROUP_SIGNALS)
    _die_with_parent(signal.SIGKILL)


def _begin_worker(**_: Any) -> None:
    """A worker may have sends in flight: it is asked to stop, also when its parent dies."""
    stopping.obey()
    _die_with_parent(signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _end_condemned_worker(**_: Any) -> None:
    """A worker that alone was told to end takes no further task. (An exception releases Q2's locks.)"""
    patience = time.monotonic() + 1  # a signal to the group may be faster than main's word
    while stopping.condemned() and not stopping.orphaned() and time.monotonic() < patience:
        time.sleep(0.05)
    if stopping.condemned():
        raise SystemExit(0)


def _die_with_parent(number: signal.Signals) -> None:
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, int(number))
    else:
        threading.Thread(target=_watch_parent, args=(_parent, number), daemon=True).start()
    if os.getppid() != _parent:  # it died before we asked to hear of it
        os._exit(1)


def _watch_parent(parent: int, number: signal.Signals) -> None:
    """Where the kernel does not tell."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), number)
