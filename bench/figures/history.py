"""How long does it take to verify the history, and to rebuild the logs from it? By the commands of operators.

Events are accepted, settled, sealed and projected by the product, then `manage.py verify` and
`manage.py rebuild_logs` run as they would by hand, with nothing else at work. What counts is the whole
command, from its start to its end; the same without what it takes on an empty history stands beside it. The
floor reads the rows that `verify` reads, by one COPY.

A few events are delivered for real. The others are claimed and settled by the same statements with what was
recorded of the first: what a history costs to read does not depend on whether somebody was called.
"""

import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass

from psycopg.types.json import Jsonb

from bench import filling
from bench.deployment import ROOT, Account, Deployment
from bench.processes import Watch
from bench.receiver import Receiver
from bench.run import Figure, Run, Wrong

NAME = "history"
MODES = {"standard", "long"}

RECEIVED = 100_000  # events; each is delivered once, which is another
ACCOUNTS = 8
PATIENCE_SECONDS = 300.0
LOOK_SECONDS = 0.1
COMMANDS = {"verify": "verified {events} events", "rebuild_logs": "rebuilt logs equal the live ones: {rows} "}
KEYS = {"verify": "history.verify", "rebuild_logs": "history.rebuild"}
COPIES = 3
ROWS = """
COPY (
    SELECT p.position, p.block, p.account_id, p.epoch, p.xid, p.seq, p.leaf,
           e.account_id, e.stream_id, e.version, e.type, e.data::text, e.payload_digest, e.recorded_at,
           sha256(payload.salt || payload.body)
      FROM event_position p
      JOIN event e USING (scope, epoch, xid, seq)
      LEFT JOIN payload ON payload.account_id = e.account_id AND payload.event_id = e.stream_id
     ORDER BY p.position
) TO STDOUT (FORMAT BINARY)
"""
RECORDED = "SELECT data FROM event WHERE type = 'delivery.succeeded' LIMIT 1"
SETTLE = """
SELECT count(*)
  FROM (SELECT array_agg(account_id) AS accounts, array_agg(delivery_id) AS deliveries,
               array_agg(fence) AS fences, array_agg(attempt) AS attempts,
               array_agg('succeeded'::text) AS verdicts, array_agg(0::bigint) AS delays,
               array_agg(%(recorded)s::jsonb || jsonb_build_object(
                   'attempt', attempt, 'event', event_id, 'destination', destination_id)) AS datas,
               array_agg(true) AS in_a_row
          FROM pusher.claim(0::smallint, 500, 1 << 30, interval '1 minute', '{}', NULL, false)) c,
       pusher.settle(0::smallint, c.accounts, c.deliveries, c.fences, c.attempts, c.verdicts, c.delays,
                     c.datas, c.in_a_row, '{20, 50, 80, 5, 300}')
"""
CAUGHT_UP = """
SELECT (SELECT count(*) FROM event) = (SELECT count(*) FROM event_position)
   AND NOT EXISTS (SELECT FROM projection p
                     JOIN projection_checkpoint c ON c.name = p.name AND c.version = p.active
                    WHERE c.block < (SELECT max(number) FROM block))
"""


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command took: seconds on the clock and of its own CPU, and MB at its largest."""

    seconds: float
    cpu: float
    memory: float


def measure(run: Run) -> None:
    with Receiver() as receiver, Deployment(run) as deployment:
        empty = {name: command(deployment, name, "") for name in COMMANDS}
        deployment.start_web()
        accounts = [deployment.account(destinations=[f"{receiver.url}/{n}"]) for n in range(ACCOUNTS)]
        deployment.stop_web()
        write(run, deployment, accounts)
        with deployment.sql() as connection:
            events, rows = connection.execute(
                "SELECT (SELECT count(*) FROM event_position), (SELECT count(*) FROM delivery_log)"
            ).fetchall()[0]
        floor = events / statistics.median(copied(deployment, events) for _ in range(COPIES))
        for name, says in COMMANDS.items():
            with Watch(deployment) as watch:
                ran = command(deployment, name, says.format(events=events, rows=rows))
            run.record(
                Figure(
                    key=KEYS[name],
                    label=f"manage.py {name}, events/s",
                    value=events / ran.seconds,
                    unit="1/s",
                    floor=floor,
                    floor_label="COPY of the same rows",
                    cpu={name: ran.cpu * 1e6 / events, "postgres": watch.per_event(events)["postgres"]},
                    memory={name: ran.memory, "postgres": watch.memory["postgres"]},
                    note=f"{events:,} events in {ran.seconds:.1f} s",
                    more={
                        "events": events,
                        "seconds": ran.seconds,
                        "seconds_on_an_empty_history": empty[name].seconds,
                        "events_per_second_without_those": events / (ran.seconds - empty[name].seconds),
                    },
                )
            )


def write(run: Run, deployment: Deployment, accounts: list[Account]) -> None:
    """Accept and settle, and wait until all of it is sealed and in the log."""
    began = time.monotonic()
    filling.fill(deployment, accounts, events=len(accounts), prefix="real")
    work(deployment)
    filled = filling.fill(deployment, accounts, events=RECEIVED, prefix="history")
    with deployment.sql() as connection:
        ((recorded,),) = connection.execute(RECORDED).fetchall()
        values = {"recorded": Jsonb(recorded)}
        settled = 0
        while settled < filled.rows:
            ((count,),) = connection.execute(SETTLE, values).fetchall()
            if not count:
                raise Wrong(f"{settled} of {filled.rows} deliveries could be claimed")
            settled += count
    work(deployment)
    run.say(f"  {settled:,} deliveries written in {time.monotonic() - began:.0f} s")


def work(deployment: Deployment) -> None:
    """A worker, until nothing is left to do."""
    deployment.start_worker()
    deployment.wait_drained(timeout=PATIENCE_SECONDS)
    deadline = time.monotonic() + PATIENCE_SECONDS
    with deployment.sql() as connection:
        while connection.execute(CAUGHT_UP).fetchall() != [(True,)]:
            if time.monotonic() > deadline:
                raise Wrong(f"the history isn't sealed and projected after {PATIENCE_SECONDS:g} s")
            time.sleep(LOOK_SECONDS)
    deployment.stop_worker()


def copied(deployment: Deployment, events: int) -> float:
    """How many seconds it takes to read all of the history's rows."""
    with deployment.sql() as connection, connection.cursor() as cursor:
        began = time.monotonic()
        with cursor.copy(ROWS.encode()) as copy:
            for _ in copy:
                pass
        seconds = time.monotonic() - began
        if cursor.rowcount != events:
            raise Wrong(f"{cursor.rowcount} rows were read, and there are {events} events")
        return seconds


def command(deployment: Deployment, name: str, says: str) -> Ran:
    """Run it to its end. Raises Wrong unless it succeeds and says so."""
    said = deployment.folder / f"{name}.txt"
    with said.open("wb") as output:
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "manage.py", name],
            cwd=ROOT,
            env=deployment.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        _, status, used = os.wait4(process.pid, 0)  # its own usage, not that of all children so far
        seconds = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode or says not in said.read_text():
        raise Wrong(f"manage.py {name} ended with status {process.returncode}:\n{said.read_text()}")
    return Ran(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e6)
