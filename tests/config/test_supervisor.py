"""Do children live and end as one with their supervisor? Small real programs, real signals, no mocks."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest

from config import supervisor
from config.supervisor import Backoff, Child, Lines, Supervisor

ROOT = Path(__file__).resolve().parents[2]
LASTING = "import time; print('up', flush=True); time.sleep(99)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + LASTING


def python(code: str, *arguments: str, name: str = "child", **options: object) -> Child:
    return Child(name, (sys.executable, "-S", "-c", textwrap.dedent(code), *arguments), **options)


def hurried() -> Backoff:
    return Backoff(first=0.01, most=0.04)


class Screen(list[str]):
    """What was written; `until` waits for a line that begins so."""

    async def until(self, beginning: str, *, times: int = 1) -> None:
        async with asyncio.timeout(20):
            while sum(line.startswith(beginning) for line in self) < times:
                await asyncio.sleep(0.01)

    def having(self, part: str) -> list[str]:
        return [line for line in self if part in line]


@contextlib.asynccontextmanager
async def running(
    *children: Child, grace: float = 20, **options: object
) -> AsyncIterator[tuple[Supervisor, Screen]]:
    screen = Screen()
    house = Supervisor(grace_seconds=grace, write=screen.append, backoff=hurried, **options)
    for child in children:
        house.start(child)
    try:
        yield house, screen
    finally:
        house.stop()
        async with asyncio.timeout(20):
            await house.until_ended()


def run(scene: Callable[[], object]) -> None:
    asyncio.run(scene(), debug=False)


# --- pauses -------------------------------------------------------------------------------------------------


def test_the_pause_doubles_up_to_its_bound() -> None:
    backoff = Backoff(first=0.5, most=30, healthy_after=60)

    assert [backoff.pause(lived=1) for _ in range(9)] == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_a_long_life_makes_the_pause_short_again() -> None:
    backoff = Backoff(first=0.5, most=30, healthy_after=60)
    for _ in range(5):
        backoff.pause(lived=59.9)

    assert [backoff.pause(lived=60), backoff.pause(lived=1)] == [0.5, 1]


def test_a_child_that_ends_is_started_again_with_growing_pauses_whatever_its_status() -> None:
    async def scene() -> None:
        async with running(python("print('born')"), python("raise SystemExit(3)", name="sick")) as (
            _,
            screen,
        ):
            await screen.until("child ended", times=4)
            await screen.until("sick ended", times=4)
        assert screen.having("child ended")[:4] == [
            f"child ended (exit status 0): starting it again in {pause} s"
            for pause in ("0.01", "0.02", "0.04", "0.04")
        ]
        assert screen.having("sick ended (exit status 3)")

    run(scene)


def test_a_killed_child_is_started_again_and_named_by_its_signal() -> None:
    async def scene() -> None:
        suicide = python("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
        async with running(suicide) as (_, screen):
            await screen.until("child ended (killed by SIGKILL)", times=2)

    run(scene)


def test_a_program_that_is_not_there_is_tried_again() -> None:
    async def scene() -> None:
        async with running(Child("ghost", ("/no/such/program",))) as (_, screen):
            await screen.until("ghost ended", times=2)

    run(scene)


@pytest.mark.slow
def test_what_a_dead_child_left_behind_ends_before_its_next_start(tmp_path: Path) -> None:
    """As a server's worker holds the port when the server itself was killed."""
    code = f"""
        import os, pathlib, signal, subprocess, sys
        alive = pathlib.Path({str(tmp_path)!r})
        for pid in alive.iterdir():
            try:
                if "State:\\tZ" in pathlib.Path("/proc", pid.name, "status").read_text(): continue
                print("overlap", flush=True)
            except FileNotFoundError: pass
        grandchild = subprocess.Popen([sys.executable, "-S", "-c", {STUBBORN!r}], stdout=subprocess.PIPE)
        grandchild.stdout.readline()
        (alive / str(grandchild.pid)).touch()
        print("born", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """

    async def scene() -> None:
        async with running(python(code), grace=0.3) as (_, screen):
            await screen.until("born", times=3)
        assert not screen.having("overlap")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervisor, "LEFTOVER_SECONDS", 0.2)
        run(scene)
    assert not any(_alive(int(pid.name)) for pid in tmp_path.iterdir())


def test_one_who_left_the_group_with_the_output_in_hand_does_not_hold_the_restart_up() -> None:
    code = """
        import subprocess, sys
        command = [sys.executable, "-S", "-c", "import time; time.sleep(30)"]
        away = subprocess.Popen(command, start_new_session=True)
        print("born", away.pid, flush=True)
    """

    async def scene() -> list[int]:
        async with running(python(code)) as (_, screen):
            await screen.until("born", times=2)
        return [int(line.split()[1]) for line in screen.having("born")]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervisor, "LAST_WORDS_SECONDS", 0.1)
        for pid in asyncio.run(scene()):
            os.kill(pid, signal.SIGKILL)


# --- ending -------------------------------------------------------------------------------------------------


def test_stop_ends_all_gently_and_those_that_the_others_need_after_them(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    code = f"""
        import signal, sys, time
        def end(*_):
            time.sleep(0.3)
            with open({str(diary)!r}, "a") as file: file.write(sys.argv[1] + "\\n")
            sys.exit(0)
        signal.signal(signal.SIGTERM, end)
        print("up", sys.argv[1], flush=True)
        time.sleep(99)
    """

    async def scene() -> None:
        needed = python(code, "needed", name="needed", ends_last=True)
        async with running(needed, *(python(code, name, name=name) for name in "ab")) as (_, screen):
            await screen.until("up", times=3)
        assert not screen.having("ended")

    run(scene)
    assert sorted(diary.read_text().split()[:2]) == ["a", "b"]
    assert diary.read_text().split()[2] == "needed"


def test_a_stubborn_child_is_killed_when_the_grace_is_over() -> None:
    async def scene() -> None:
        async with running(python(STUBBORN), python(STUBBORN, ends_last=True), grace=0.5) as (house, screen):
            await screen.until("up", times=2)
            began = time.monotonic()
            house.stop()
            await house.until_ended()
            assert 0.5 <= time.monotonic() - began < 3

    run(scene)


def test_a_second_stop_kills_at_once() -> None:
    async def scene() -> None:
        async with running(python(STUBBORN), python(STUBBORN, ends_last=True), grace=60) as (house, screen):
            await screen.until("up", times=2)
            began = time.monotonic()
            house.stop()
            ending = asyncio.create_task(house.until_ended())
            await asyncio.sleep(0.2)
            assert not ending.done()
            house.stop()
            await ending
            assert time.monotonic() - began < 5

    run(scene)


def test_stop_ends_a_pause_and_a_child_that_is_just_being_made() -> None:
    async def scene() -> None:
        screen = Screen()
        house = Supervisor(grace_seconds=60, write=screen.append, backoff=lambda: Backoff(first=60))
        house.start(python("print('born')", name="pausing"))
        await screen.until("pausing ended")
        house.start(python(LASTING, name="made"))
        await asyncio.sleep(0)
        house.stop()
        house.start(python(LASTING, name="late"))
        async with asyncio.timeout(10):
            await house.until_ended()
        assert not screen.having("late")

    run(scene)


def test_a_stopped_child_is_ended_too() -> None:
    """SIGSTOP keeps SIGTERM waiting; only SIGKILL goes through."""

    async def scene() -> None:
        code = "import os, signal; print('up', os.getpid(), flush=True); signal.pause()"
        async with running(python(code), grace=0.3) as (_, screen):
            await screen.until("up")
            os.kill(int(screen[0].split()[1]), signal.SIGSTOP)

    run(scene)


# --- as a process of its own --------------------------------------------------------------------------------

HOUSE = """
    import asyncio, sys
    from config.supervisor import Child, Supervisor

    async def main():
        house = Supervisor(grace_seconds=float(sys.argv[1]))
        house.obey_signals()
        for number, code in enumerate(sys.argv[2:]):
            house.start(Child(str(number), (sys.executable, "-S", "-c", code), label=f"{number} | "))
        await house.until_ended()
        print("all ended", flush=True)

    asyncio.run(main())
"""
TELLING = "import os, signal, time; print('up', os.getpid(), flush=True); time.sleep(99)"
TELLING_STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + TELLING


@contextlib.contextmanager
def house(*codes: str, grace: float = 20):
    command = (sys.executable, "-c", textwrap.dedent(HOUSE), str(grace), *codes)
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        lines = [process.stdout.readline().split() for _ in codes]
        yield process, [int(pid) for _, _, _, pid in lines]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_supervisor_and_all_its_children(number: signal.Signals) -> None:
    with house(TELLING, TELLING) as (process, children):
        process.send_signal(number)
        rest, _ = process.communicate(timeout=20)

    assert (process.returncode, rest.splitlines()[-1]) == (0, "all ended")
    assert not any(_alive(child) for child in children)


def test_a_second_signal_does_not_wait_for_the_grace() -> None:
    with house(TELLING_STUBBORN, grace=60) as (process, children):
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=10)

    assert not any(_alive(child) for child in children)


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_a_killed_supervisor_leaves_no_orphans() -> None:
    with house(TELLING, TELLING) as (process, children):
        process.kill()
        process.wait()
        _eventually(lambda: not any(_alive(child) for child in children))


def test_children_get_no_terminal_signal_of_their_own() -> None:
    """Each leads its own group: a Ctrl-C reaches the supervisor's group alone."""
    with house(TELLING, TELLING) as (process, children):
        groups = {os.getpgid(pid) for pid in (process.pid, *children)}

    assert groups == {process.pid, *children}


def test_output_whose_reader_went_away_does_not_end_the_service() -> None:
    chatty = "import os, time; print('up', os.getpid(), flush=True)\nwhile True: print(flush=True)"
    with house(chatty) as (process, (child,)):
        process.stdout.close()
        time.sleep(0.5)
        assert process.poll() is None
        assert _alive(child)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0


# --- output -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chunks", "lines"),
    [
        ([b"a\nb\n"], ["a", "b"]),  # whole lines
        ([b"a", b"b\nc", b"\n"], ["ab", "c"]),  # a line in pieces
        ([b"a"], ["a"]),  # never ended
        ([b"a\r\n\n"], ["a", ""]),  # carriage return, empty line
        ([b"\xc3", b"\xa9\n"], ["é"]),  # a character in pieces
        ([b"\xff\xfe\n"], ["\ufffd\ufffd"]),  # no text at all
        ([b"\x1b[31mred\x1b[0m\n"], ["\x1b[31mred\x1b[0m"]),  # colours stay
        (
            [b"\x1b[2J\x1b]0;title\x07\x00\n"],
            ["\ufffd[2J\ufffd]0;title\ufffd\ufffd"],
        ),  # other orders to the terminal
        ([b"a\tb\x9b1m\n"], ["a\tb\ufffd1m"]),  # tabs stay; a bare C1 byte is no text
        (["\x85\u009b".encode()], ["\ufffd\ufffd"]),  # C1 controls, well encoded
    ],
)
def test_bytes_become_lines(chunks: list[bytes], lines: list[str]) -> None:
    splitter = Lines()

    assert [line for chunk in chunks for line in splitter.feed(chunk)] + splitter.rest() == lines


def test_a_line_without_end_does_not_fill_the_memory() -> None:
    splitter = Lines()
    pieces = [piece for _ in range(10) for piece in splitter.feed(b"x" * supervisor.LINE_BYTES)]

    assert sum(map(len, pieces)) >= 9 * supervisor.LINE_BYTES
    assert len(splitter.rest()[0]) <= supervisor.LINE_BYTES


def test_lines_of_several_children_are_labelled_and_never_mixed() -> None:
    code = """
        import sys, time
        for _ in range(30):
            for letter in sys.argv[1] * 5 + "\\n":
                (sys.stdout, sys.stderr)[_ % 2].write(letter)
                (sys.stdout, sys.stderr)[_ % 2].flush()
        sys.stdout.write("end"); sys.stdout.flush()
        time.sleep(99)
    """

    async def scene() -> None:
        children = [python(code, letter, name=letter, label=f"{letter} | ") for letter in "ab"]
        async with running(*children) as (_, screen):
            await screen.until("a | aaaaa", times=30)
            await screen.until("b | bbbbb", times=30)
        assert sorted(set(screen)) == ["a | aaaaa", "a | end", "b | bbbbb", "b | end"]

    run(scene)


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _eventually(holds: Callable[[], bool], *, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
