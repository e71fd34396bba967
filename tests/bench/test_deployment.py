"""Does a measurement notice that a process died, and leave nothing behind when it is told to end?"""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

# Two figures: under one a process of the product dies, the other takes for ever.
FIGURES = """
import os, signal, sys, time, types
from bench import __main__ as command
from bench.deployment import Deployment
from bench.run import Figure

def dies(run):
    with Deployment(run) as deployment:
        deployment.start_web()
        os.kill(deployment.kinds()["web"][0].children()[0].pid, signal.SIGKILL)
        time.sleep(0.2)
        run.record(Figure("dies", "of a web that died", 1, "1/s"))

def waits(run):
    with Deployment(run, slots=1) as deployment:
        deployment.start_web()
        deployment.start_worker()
        print("TOKEN", deployment.account(destinations=["http://127.0.0.1:8000/"]).token)
        print("waiting", flush=True)
        time.sleep(60)

for measure in (dies, waits):
    module = types.SimpleNamespace(NAME=measure.__name__, MODES={"quick"}, measure=measure)
    sys.modules[f"bench.figures.{measure.__name__}"] = module
command.FIGURES = ("dies", "waits")
sys.exit(command.main(["quick", "--scratch", sys.argv[1], "--result", sys.argv[1]]))
"""


def everybody(folder: Path) -> list[psutil.Process]:
    """Who works in the folder or was started for it."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            signs = (" ".join(process.cmdline()), process.environ().get("DATA_DIR", ""), process.cwd())
            if process.status() != psutil.STATUS_ZOMBIE and any(str(folder) in sign for sign in signs):
                found.append(process)
    return found


@pytest.mark.slow
def test_a_dead_process_is_told_and_a_signal_ends_everything(tmp_path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "wrk").symlink_to("/bin/true")
    scratch = tmp_path / "scratch"
    # What the caller has set is not for the product that is measured.
    environment = os.environ | {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "DATABASE_URL": "postgresql://nowhere/",
    }
    process = subprocess.Popen(
        [sys.executable, "-c", FIGURES, str(scratch)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        start_new_session=True,
    )
    with process:
        said = []
        for line in process.stdout:
            said.append(line)
            if line == "waiting\n":
                assert len(everybody(scratch)) > 6
                process.send_signal(signal.SIGTERM)
    told = "".join(said)

    assert process.returncode == 128 + signal.SIGTERM, told
    assert "web lost its process" in told
    assert "of a web that died: 1/s" not in told
    assert "TOKEN clx_" in told
    assert list(scratch.iterdir()) == []
    assert everybody(scratch) == []
