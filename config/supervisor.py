"""How do several programs live and end as one? They are started, listened to, started again, ended together.

A child leads a process group of its own, so a Ctrl-C in the terminal reaches the supervisor alone, which
decides in which order the others end. Plain standard library: it knows nothing of what the children do.
"""

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field

READ_BYTES = 1 << 16
LINE_BYTES = 1 << 14
LEFTOVER_SECONDS = 5.0
LAST_WORDS_SECONDS = 1.0

# Runs in the child before its program: asks Linux for a SIGTERM when the supervisor dies, even by SIGKILL.
# It is a program in front of the program because code between fork and exec is unsafe once there are threads.
# The comparison closes a gap: a supervisor that died before the request was made sends nothing any more.
LEASH = """
import os, sys
parent, argv = int(sys.argv[1]), sys.argv[2:]
if sys.platform == "linux":
    import ctypes, signal
    ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(0)
os.execvp(argv[0], argv)
"""


@dataclass(frozen=True, eq=False)
class Child:
    """A program to keep alive. `label` stands before each of its lines; the others need what `ends_last`."""

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    label: str = ""
    ends_last: bool = False


@dataclass
class Backoff:
    """Seconds to pause before the next start: they double, and begin anew after a long enough life."""

    first: float = 0.5
    most: float = 30.0
    healthy_after: float = 60.0
    _next: float = 0.0

    def pause(self, *, lived: float) -> float:
        if lived >= self.healthy_after or not self._next:
            self._next = self.first
        pause, self._next = self._next, min(self._next * 2, self.most)
        return pause


class Lines:
    """Turns a stream of bytes into whole lines that can do a terminal no harm (colours stay)."""

    _harmful = re.compile(r"\x1b(?!\[[0-9;]*m)|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f]")

    def __init__(self) -> None:
        self._begun = b""

    def feed(self, chunk: bytes) -> list[str]:
        *whole, self._begun = (self._begun + chunk).split(b"\n")
        while len(self._begun) > LINE_BYTES:
            whole.append(self._begun[:LINE_BYTES])
            self._begun = self._begun[LINE_BYTES:]
        return [self._clean(line) for line in whole]

    def rest(self) -> list[str]:
        begun, self._begun = self._begun, b""
        return [self._clean(begun)] if begun else []

    def _clean(self, line: bytes) -> str:
        text = line.removesuffix(b"\r").decode(errors="replace")
        return self._harmful.sub("\N{REPLACEMENT CHARACTER}", text)


def to_standard_output(line: str) -> None:
    """A reader that went away (`make up | head`, a closed terminal) ends the printing, not the service."""
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


class Supervisor:
    """start() children within a running loop, then await until_ended(); a second stop() ends them at once."""

    def __init__(
        self,
        *,
        grace_seconds: float,
        write: Callable[[str], None] = to_standard_output,
        backoff: Callable[[], Backoff] = Backoff,
    ) -> None:
        self._grace = grace_seconds
        self._write = write
        self._backoff = backoff
        self._stopping = asyncio.Event()
        self._killing = False
        self._keepers: dict[Child, asyncio.Task[None]] = {}
        self._lives: dict[Child, asyncio.subprocess.Process] = {}

    def obey_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.stop)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
            loop.add_signal_handler(signal.SIGHUP, self.stop)

    def start(self, child: Child) -> None:
        if not self._stopping.is_set():
            self._keepers[child] = asyncio.create_task(self._keep(child), name=child.name)

    def stop(self) -> None:
        if self._stopping.is_set():
            self._kill()
        self._stopping.set()

    async def until_ended(self) -> None:
        """Returns when stop() was called and no child, nor anybody of its group, is left."""
        await self._stopping.wait()
        deadline = asyncio.get_running_loop().time() + self._grace
        for last in (False, True):
            stage = [child for child in self._keepers if child.ends_last is last]
            for child in stage:
                self._ask_to_end(child)
            if not await self._ended(stage, until=deadline):
                self._kill()
        await asyncio.gather(*self._keepers.values())

    async def _ended(self, stage: Iterable[Child], *, until: float) -> bool:
        loop = asyncio.get_running_loop()
        pending = {self._keepers[child] for child in stage}
        while pending and not self._killing and loop.time() < until:
            _, pending = await asyncio.wait(pending, timeout=0.05)
        return not pending

    def _ask_to_end(self, child: Child) -> None:
        # The leader alone: it knows how its own children end well.
        with contextlib.suppress(KeyError, ProcessLookupError):
            self._lives[child].terminate()

    def _kill(self) -> None:
        self._killing = True
        for process in self._lives.values():
            _signal_group(process.pid, signal.SIGKILL)

    async def _keep(self, child: Child) -> None:
        backoff, loop = self._backoff(), asyncio.get_running_loop()
        while not self._stopping.is_set():
            began = loop.time()
            how = await self._live(child)
            if self._stopping.is_set():
                return
            pause = backoff.pause(lived=loop.time() - began)
            self._write(f"{child.name} ended ({how}): starting it again in {pause:g} s")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)

    async def _live(self, child: Child) -> str:
        """One life, from the start until nobody of the group is left; says how it ended."""
        try:
            process, listening = await self._spawn(child)
        except OSError as error:  # no memory, no process, no file to be had: all of it may pass
            return str(error)
        status = await process.wait()
        await self._clear(process.pid)
        del self._lives[child]
        await _last_words(listening)
        return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"

    async def _spawn(self, child: Child) -> tuple[asyncio.subprocess.Process, asyncio.Task[None]]:
        # A pipe of our own: asyncio's would make wait() last as long as anybody holds the other end.
        outlet, inlet = os.pipe()
        listening = asyncio.create_task(self._forward(child, outlet))
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-S", "-E", "-c", LEASH, str(os.getpid()), *child.argv),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=inlet,
                stderr=inlet,
                env=dict(child.environment),
                process_group=0,
            )
        finally:
            os.close(inlet)
        self._lives[child] = process
        # stop() may have come while the process was being made and there was nobody to tell.
        if self._stopping.is_set():
            _signal_group(process.pid, signal.SIGKILL if self._killing else signal.SIGTERM)
        return process, listening

    async def _forward(self, child: Child, outlet: int) -> None:
        lines = Lines()
        async with _reading(outlet) as stream:
            while chunk := await stream.read(READ_BYTES):
                for line in lines.feed(chunk):
                    self._write(child.label + line)
        for line in lines.rest():
            self._write(child.label + line)

    async def _clear(self, group: int) -> None:
        """What a dead leader left behind would hold its port or work, so it ends before the next start."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + LEFTOVER_SECONDS
        left = _signal_group(group, signal.SIGTERM)
        while left and not self._killing and (self._stopping.is_set() or loop.time() < deadline):
            await asyncio.sleep(0.02)
            left = _signal_group(group, 0)
        deadline = loop.time() + LAST_WORDS_SECONDS
        while _signal_group(group, signal.SIGKILL) and loop.time() < deadline:  # noqa: ASYNC110 - tells no event
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def _reading(descriptor: int) -> AsyncIterator[asyncio.StreamReader]:
    stream = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(descriptor, "rb", buffering=0)
    )
    try:
        yield stream
    finally:
        transport.close()


async def _last_words(listening: asyncio.Task[None]) -> None:
    """What was written is read to its end, unless somebody who left the group still holds the other end."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(listening, LAST_WORDS_SECONDS)


def _signal_group(group: int, number: int) -> bool:
    """True when somebody is there. What became another user's is out of our reach, and not ours to end."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True
