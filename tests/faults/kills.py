"""The faults that kill: receivers, workers, clusters, PostgreSQL, at random moments and at named points."""

import contextlib
import os
import random
import signal
import time

import psutil

from tests.faults.crashpoints import POINTS, UNCOMMITTED
from tests.faults.deployment import LEASE_SECONDS, pick, wait_for
from tests.faults.trial import Fault, Trial

BEYOND_LEASE = LEASE_SECONDS + 3.0


def receiver(trial: Trial) -> None:
    """A receiver process (granian starts it again)."""
    for _ in trial.moments(2):
        trial.kill(pick(trial.rng, trial.deployment.receivers))


def web(trial: Trial) -> None:
    """The parent of the receiver processes (the supervisor starts it again)."""
    for _ in trial.moments(1):
        trial.kill(wait_for(lambda: trial.deployment.child("web"), "web"))


def worker(trial: Trial) -> None:
    """A process that drains (Q2 starts another, its slot is taken after its lease)."""
    for _ in trial.moments(3):
        trial.kill(pick(trial.rng, trial.deployment.drains))


def worker_command(trial: Trial) -> None:
    """The worker command alone: the kernel tells its children."""
    for _ in trial.moments(1):
        trial.kill(wait_for(lambda: trial.deployment.child("worker"), "the worker command"))


def cluster(trial: Trial) -> None:
    """The whole Q2 cluster at once."""
    for _ in trial.moments(1):
        trial.deployment.kill_cluster()
        trial.result.kills += 1


def zombie(trial: Trial) -> None:
    """A worker is stopped beyond its lease while its requests are answered; then it goes on: fenced."""
    before = _interrupted(trial)
    for _ in trial.moments(1, last=0.5):
        stopped = _amid_requests(trial)
        stopped.suspend()
        try:
            trial.receiver.behave("*")
            time.sleep(BEYOND_LEASE)
            wait_for(lambda: _interrupted(trial) > before, "its attempts to be on record as interrupted")
        finally:
            stopped.resume()
    trial.note(f"{_interrupted(trial) - before} attempts interrupted")


def sent(trial: Trial) -> None:
    """Named point "after the request was written": the receiver has read it and holds its answer."""
    for _ in trial.moments(2):
        trial.kill(_amid_requests(trial))
        trial.receiver.behave("*")


def _amid_requests(trial: Trial) -> psutil.Process:
    """A worker process whose requests the receiver has read, and holds unanswered."""
    trial.receiver.behave("*", hold=True)
    return wait_for(lambda: _whose(trial), "a worker whose requests are held", pause=0.005)


def _whose(trial: Trial) -> psutil.Process | None:
    ports = trial.receiver.held_ports
    for process in trial.deployment.drains():
        with contextlib.suppress(psutil.Error):
            if ports & {one.laddr.port for one in process.net_connections("tcp4")}:
                return process
    return None


def _at(point: str, how: signal.Signals = signal.SIGKILL) -> None:
    def play(trial: Trial) -> None:
        for _ in trial.moments(1, last=0.6):
            trial.deployment.points.arm(point, how)
            pid = trial.deployment.points.fired(point)
            assert pid, f"nobody came to the point {point}"
            trial.result.kills += how is signal.SIGKILL
            if how is signal.SIGSTOP:
                time.sleep(BEYOND_LEASE)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    return play


def postgres_crash(trial: Trial) -> None:
    """kill -9 of the postmaster: its keeper starts it again, and it recovers from its log."""
    for _ in trial.moments(1):
        trial.kill(wait_for(trial.deployment.postmaster, "a postmaster"))


def postgres_immediate(trial: Trial) -> None:
    """Stopped as by `pg_ctl stop -m immediate`, and started again."""
    for _ in trial.moments(1):
        trial.kill(wait_for(trial.deployment.postmaster, "a postmaster"), signal.SIGQUIT)


def postgres_backend(trial: Trial) -> None:
    """Single sessions are terminated, among them the intake's, a claim's and a settle's."""
    for _ in trial.moments(6):
        trial.deployment.ask(
            "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity"
            " WHERE application_name LIKE 'data-pusher %' ORDER BY random() LIMIT 2) AS chosen"
        )


def postgres_backend_killed(trial: Trial) -> None:
    """kill -9 of one session's process: PostgreSQL throws out all others and recovers."""
    for _ in trial.moments(1):
        ((pid,),) = trial.deployment.ask(
            "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'data-pusher %'"
            " ORDER BY random() LIMIT 1"
        )
        trial.kill(psutil.Process(pid))


def terminated(trial: Trial) -> None:
    """SIGTERM to the worker command under load: what fits the grace is not interrupted."""
    before = _interrupted(trial)
    for _ in trial.moments(1):
        trial.receiver.behave("*", delay=[0.2, 0.6])
        time.sleep(0.5)
        trial.kill(wait_for(lambda: trial.deployment.child("worker"), "a worker command"), signal.SIGTERM)
        time.sleep(2)
        trial.receiver.behave("*")
    trial.load.wait()
    trial.deployment.until_drained()
    if interrupted := _interrupted(trial) - before:
        trial.wrong(f"{interrupted} attempts were interrupted by SIGTERM")


def web_terminated(trial: Trial) -> None:
    """SIGTERM to web under load: who was let in is answered."""
    for _ in trial.moments(1):
        trial.kill(wait_for(lambda: trial.deployment.child("web"), "web"), signal.SIGTERM)


def _interrupted(trial: Trial) -> int:
    return trial.deployment.ask("SELECT count(*) FROM event WHERE type = 'delivery.interrupted'")[0][0]


DONE = {"claimed": "after claim", "answered": "after the answer", "settled": "after settle's commit"}
UNDER_WAY = {
    "claiming": "before claim's commit",
    "settling": "before settle's commit",
    "sealing": "a sealer, its block inserted but not committed",
    "projecting": "a projector, its rows written but not committed",
}

KILLS = (
    Fault("receiver", "kill -9 of a receiver process", receiver),
    Fault("web", "kill -9 of the receivers' parent", web),
    Fault("worker", "kill -9 of a worker process", worker),
    Fault("worker-command", "kill -9 of the worker command", worker_command),
    Fault("cluster", "kill -9 of the whole Q2 cluster", cluster),
    Fault("sent", "kill -9 after the request was written", sent),
    *(Fault(f"kill-{point}", f"kill -9 {(DONE | UNDER_WAY)[point]}", _at(point)) for point in POINTS),
    *(
        Fault(f"stop-{point}", f"SIGSTOP beyond the lease, {UNDER_WAY[point]}", _at(point, signal.SIGSTOP))
        for point in UNCOMMITTED
    ),
    Fault("stop-claimed", "SIGSTOP beyond the lease, after claim", _at("claimed", signal.SIGSTOP)),
    Fault("zombie", "SIGSTOP beyond the lease with requests under way, then SIGCONT", zombie),
    Fault("sigterm", "SIGTERM to the worker command under load", terminated),
    Fault("web-sigterm", "SIGTERM to web under load", web_terminated),
    Fault("postgres-crash", "kill -9 of the postmaster", postgres_crash),
    Fault(
        "postgres-immediate",
        "PostgreSQL stopped immediately, and started",
        postgres_immediate,
    ),
    Fault("backend-terminated", "PostgreSQL sessions terminated", postgres_backend),
    Fault("backend-killed", "kill -9 of a PostgreSQL session", postgres_backend_killed),
)


def random_kill(trial: Trial, rng: random.Random) -> str:
    """One kill of `make faults-long`, of whatever lives just now; says which."""
    kind = rng.choices(list(RANDOM), weights=[weight for weight, _ in RANDOM.values()])[0]
    with contextlib.suppress(AssertionError, psutil.Error, ProcessLookupError):
        if RANDOM[kind][1](trial, rng):
            trial.result.kills += 1
            return kind
    return ""


def _one_of(name: str):
    def kill(trial: Trial, rng: random.Random) -> bool:
        pick(rng, getattr(trial.deployment, name), within=5).kill()
        return True

    return kill


def _command(name: str):
    def kill(trial: Trial, _rng: random.Random) -> bool:
        wait_for(lambda: trial.deployment.child(name), name, within=5).kill()
        return True

    return kill


def _cluster(trial: Trial, _rng: random.Random) -> bool:
    return bool(trial.deployment.kill_cluster())


def _point(trial: Trial, rng: random.Random) -> bool:
    point = rng.choice(POINTS)
    trial.deployment.points.arm(point)
    hit = trial.deployment.points.fired(point, within=5)
    trial.deployment.points.disarm(point)
    return hit is not None


def _postmaster(trial: Trial, _rng: random.Random) -> bool:
    wait_for(trial.deployment.postmaster, "a postmaster", within=5).kill()
    return True


RANDOM = {
    "worker process": (34, _one_of("drains")),
    "named point": (30, _point),
    "receiver process": (20, _one_of("receivers")),
    "whole Q2 cluster": (5, _cluster),
    "worker command": (3, _command("worker")),
    "receivers' parent": (4, _command("web")),
    "postmaster": (4, _postmaster),
}
