"""Is all the CPU of a tree of processes counted, also of those that are gone?"""

import subprocess
import sys
from contextlib import closing

import psutil
import pytest

from bench.processes import Watch

BURN = """
import sys, time
def burn(seconds):
    until = time.process_time() + seconds
    while time.process_time() < until: pass
"""
# Burns, and has two children burn: one comes and goes, the other stays.
PARENT = f"""
import subprocess, sys
{BURN}
print("ready", flush=True); sys.stdin.readline()
burn(0.1)
subprocess.run([sys.executable, "-c", {BURN + "burn(0.1)"!r}])
stays = subprocess.Popen([sys.executable, "-c", {BURN + "burn(0.1); print(flush=True); sys.stdin.read()"!r}],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
stays.stdout.readline()
keep = bytearray(60_000_000)
print("done", flush=True); sys.stdin.readline()
"""


def test_a_tree_is_counted_whoever_came_and_went() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with parent, closing(parent.stdin):
        parent.stdout.readline()
        with Watch(tree=parent.pid) as watch:
            parent.stdin.write(b"\n")
            parent.stdin.flush()
            parent.stdout.readline()

    assert 0.28 <= watch.cpu["tree"] < 3
    assert watch.per_event(1000)["tree"] == pytest.approx(watch.cpu["tree"] * 1000)
    assert 60 <= watch.memory["tree"] < 200
    assert not psutil.pid_exists(parent.pid)


def test_what_this_process_ran_meanwhile_is_the_load() -> None:
    with Watch() as watch:
        subprocess.run([sys.executable, "-c", BURN + "burn(0.1)"], check=True)

    assert 0.1 <= watch.cpu["load"] < 3
    assert watch.per_event(0) == {}
