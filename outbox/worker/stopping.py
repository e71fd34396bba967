"""When must a worker process stop? When the command says so, on SIGTERM, or when its parent is gone.

The command's word is one byte of shared memory, inherited by fork. A `multiprocessing.Event` would be the
usual thing, but looking at one takes its lock: a process that is killed or stopped while it looks would hold
up all the others, and the command itself.
"""

import mmap
import os
import signal
from types import FrameType

from django.conf import settings

_told = mmap.mmap(-1, 1)
_parent = os.getppid()
_signalled = False
_busy = False


def tell() -> None:
    """The command's word to every process that was forked from it."""
    _told[0] = 1


def told() -> bool:
    return _told[0] == 1


def orphaned() -> bool:
    return os.getppid() != _parent


def requested() -> bool:
    return told() or _signalled or orphaned()


def condemned() -> bool:
    """Was this process alone told to end, rather than the whole command?"""
    return (_signalled or orphaned()) and not told()


def obey() -> None:
    """Called first in a process that runs tasks: from now on SIGTERM asks it to stop.

    An idle process with a living parent does not end by it: it may hold the lock of the queue that its
    siblings read, and the parent will end it by a word in that queue. With the parent gone, none will come.
    """
    global _parent, _signalled  # noqa: PLW0603 - a process has one parent and one disposition of SIGTERM
    _parent = os.getppid()
    _signalled = False
    signal.signal(signal.SIGTERM, _on_sigterm)


def busy(value: bool) -> None:
    """A busy process looks at `requested` itself and ends in order."""
    global _busy  # noqa: PLW0603 - as above
    _busy = value


def _on_sigterm(_number: int, _frame: FrameType | None) -> None:
    global _signalled  # noqa: PLW0603 - as above
    _signalled = True
    if not orphaned():
        return
    if told() or not _busy:  # the command's patience is over, or there is nothing to end in order
        os._exit(0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(settings.SHUTDOWN_GRACE_SECONDS)
