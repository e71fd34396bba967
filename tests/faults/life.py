"""The faults of daily life: Q2's tables gone, keys and clocks changed, ids posted twice, settings changed."""

import collections
import contextlib
import hashlib
import json
import os
import secrets
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator

import httpx
import psycopg

from accounts import tokens
from config import keeper
from tests.faults import client
from tests.faults.client import Post
from tests.faults.deployment import BASE, PASSWORD, Destination, pick, wait_for
from tests.faults.trial import Fault, Trial

HOUR = 3600
ACCEPT = "SELECT outcome FROM pusher.accept(0::smallint, %s, %s, %s, %s, %s, %s, %s)"


# --- Django-Q2, keys, clocks --------------------------------------------------------------------------------


def q2_truncated(trial: Trial) -> None:
    """All of Q2's tables are emptied; then a worker dies, so that its successor must be asked for anew."""
    for _ in trial.moments(2):
        trial.deployment.do("TRUNCATE django_q_task, django_q_schedule, django_q_ormq")
        trial.kill(pick(trial.rng, trial.deployment.drains))


def secret_key_changed(trial: Trial) -> None:
    """Everything is stopped and started with another key: what Q2 had queued does not verify any more."""
    for _ in trial.moments(1):
        trial.deployment.stop()
        trial.deployment.environment["SECRET_KEY"] = secrets.token_urlsafe(48)
        trial.deployment.start()
        trial.deployment.until_ready()


def clock_off(trial: Trial) -> None:
    """One worker's clock is an hour ahead, then an hour behind; the other's is right."""
    for seconds, _ in zip((HOUR, -HOUR), trial.moments(2, last=0.5), strict=True):
        trial.deployment.points.shift_clock(slot=0, seconds=seconds)
        for drain in wait_for(trial.deployment.drains, "drains"):
            trial.kill(drain)
        pid = trial.deployment.points.fired("clock")
        assert pid, "no drain began in slot 0"


# --- the client ---------------------------------------------------------------------------------------------


def same_id(trial: Trial) -> None:
    """20 ids, each posted 50 times at once with the same bytes: one event each."""
    _at_once(trial, lambda _turn: b'{"same": true}')


def same_id_other_bytes(trial: Trial) -> None:
    """20 ids, each posted 50 times at once with other bytes: one event each, the others are refused."""
    _at_once(trial, lambda turn: json.dumps({"turn": turn}).encode())


def _at_once(trial: Trial, body: Callable[[int], bytes]) -> None:
    for number in range(20):
        event_id = f"{trial.fault.name}-once-{number}"
        posts = [Post(event_id, body(turn)) for turn in range(50)]
        trial.make_load(trial.account, posts, connections=50, rate=1e6).start().wait()
    trial.load.wait()
    answers = collections.Counter(
        (line["event_id"], line["outcome"]) for line in client.read_ledger(trial.ledger)
    )
    twice = [
        event_id for (event_id, outcome), times in answers.items() if outcome == "acknowledged" and times > 1
    ]
    if twice:
        trial.wrong(f"accepted more than once: {twice}")
    if (made := _count(trial, "event_key")) != trial.events + 20:
        trial.wrong(f"{made} events of {trial.events + 20} ids")


def _count(trial: Trial, table: str) -> int:
    return trial.deployment.ask(f"SELECT count(*) FROM {table} WHERE account_id = %s", trial.account.id)[0][0]


def commit_order(trial: Trial) -> None:
    """Accepted in a transaction that stays open while hundreds commit: late, but not never."""
    other = trial.deployment.account("held")
    trial.add_destination(other, f"/{trial.fault.name}/held")
    for number, _ in enumerate(trial.moments(3, last=0.6)):
        with trial.deployment.sql(keeper.APPLICATION) as connection, connection.transaction():
            event_id, body = f"held-{number}", b'{"held": true}'
            _accept(connection, other.token, event_id, body)
            trial.until_share(min(trial.load.progress + 0.1, 0.99))
            time.sleep(1)
    trial.deployment.until_drained()
    seen = {one["event_id"] for one in trial.receiver.sightings()}
    if missing := {f"held-{number}" for number in range(3)} - seen:
        trial.wrong(f"never delivered: {missing}")


def _accept(connection: psycopg.Connection, token: str, event_id: str, body: bytes) -> None:
    presented, salt = tokens.parse(token), os.urandom(16)
    row = connection.execute(
        ACCEPT,
        [
            [presented.key_id],
            [presented.digest],
            [event_id],
            [body],
            [salt],
            [hashlib.sha256(salt + body).digest()],
            [uuid.uuid4()],
        ],
    ).fetchone()
    assert row == ("accepted",), row


def noisy_neighbour(trial: Trial) -> None:
    """One account posts at 100 times the rate of the rest; theirs still arrive at once."""
    quiet = trial.deployment.account("quiet")
    trial.add_destination(quiet, f"/{trial.fault.name}/quiet")
    ledger = trial.ledger.with_name(f"ledger-{trial.fault.name}-quiet.jsonl")
    few = max(5, round(trial.events / 100))
    posts = client.posts("quiet", few, trial.rng)
    trial.make_load(quiet, posts, rate=trial.fault.rate / 100, ledger=ledger).start().wait()
    trial.deployment.until_drained()
    told = {line["event_id"]: line["answered_at"] for line in client.read_ledger(ledger)}
    waits = [
        one["at"] - told[one["event_id"]] for one in trial.receiver.sightings() if one["event_id"] in told
    ]
    worst = max(waits)
    trial.note(f"{len(waits)} quiet deliveries: median {statistics.median(waits):.3f} s, worst {worst:.3f} s")
    if len(waits) != few or worst > 2:
        trial.wrong(f"{len(waits)} of {few} quiet deliveries came, the last after {worst:.1f} s")


# --- settings of an account ---------------------------------------------------------------------------------


@contextlib.contextmanager
def _rows_waiting(trial: Trial) -> Iterator[Destination]:
    """Within: the first destination refuses, so that its rows wait."""
    path = trial.account.destinations[0].path
    trial.receiver.behave(path, status=503)
    trial.until_share(0.3)
    wait_for(lambda: _count(trial, "outbox") > 5, "rows that wait")
    yield trial.account.destinations[0]
    trial.receiver.behave(path)


def destination_edited(trial: Trial) -> None:
    """It moves to another URL while rows wait: they go there."""
    with _rows_waiting(trial) as destination:
        path = f"/{trial.fault.name}/moved"
        trial.receiver.know(trial.receiver.url + path, *destination.secrets)
        trial.deployment.call("PATCH", _path(trial, destination), url=trial.receiver.url + path)
        trial.account.destinations.append(Destination(destination.id, path, destination.secrets))


def destination_disabled(trial: Trial) -> None:
    with _rows_waiting(trial) as destination:
        trial.deployment.call("PATCH", _path(trial, destination), active=False)


def destination_deleted(trial: Trial) -> None:
    with _rows_waiting(trial) as destination:
        trial.deployment.call("DELETE", _path(trial, destination))


def _path(trial: Trial, destination: Destination) -> str:
    return f"/accounts/{trial.account.id}/destinations/{destination.id}/"


def account_deleted(trial: Trial) -> None:
    """An account goes while its events come in and wait: no attempt for it starts over 2 s afterwards."""
    doomed = trial.deployment.account("doomed")
    path = f"/{trial.fault.name}/doomed"
    trial.add_destination(doomed, path)
    posts = client.posts("doomed", trial.events // 2, trial.rng)
    ledger = trial.ledger.with_name(f"ledger-{trial.fault.name}-doomed.jsonl")
    load = trial.make_load(doomed, posts, ledger=ledger, rate=trial.fault.rate / 2).start()
    trial.receiver.behave(path, delay=[0.2, 0.6])
    for _ in trial.moments(1, last=0.4):
        trial.deployment.call("DELETE", f"/accounts/{doomed.id}/")
        deleted_at = time.time()
    load.wait()
    time.sleep(2)
    seen = [one["at"] - deleted_at for one in trial.receiver.sightings() if one["destination"] == path]
    trial.note(f"{len(seen)} deliveries seen, the last {max(seen):+.1f} s from the deletion")
    if max(seen) > 2:
        trial.wrong(f"an attempt began {max(seen):.1f} s after its account was deleted")


def token_rotated(trial: Trial) -> None:
    """The token changes under load, twice: with an overlap, and at once."""
    for overlap, _ in zip((60, 0), trial.moments(2), strict=True):
        made = trial.deployment.call(
            "POST", f"/accounts/{trial.account.id}/token/rotate/", overlap_seconds=overlap
        )
        time.sleep(0.05)  # requests with the earlier token are still coming
        trial.load.token = made["app_secret_token"]


def member_removed(trial: Trial) -> None:
    """A member reads the logs again and again; when she is removed, her next request finds nothing."""
    email = "bob@shop.example.org"
    register = {"email": email, "password": PASSWORD}
    trial.deployment.call("POST", "/auth/register/", **register)
    bearer = trial.deployment.call("POST", "/auth/login/", **register)["token"]
    members = f"/accounts/{trial.account.id}/members/"
    member = trial.deployment.call("POST", members, email=email, role="Normal user")
    logs = f"{trial.deployment.url}/api/v1/accounts/{trial.account.id}/logs/"
    headers = {"Authorization": f"Bearer {bearer}"}
    for _ in trial.moments(1):
        before = httpx.get(logs, headers=headers).status_code
        trial.deployment.call("DELETE", f"{members}{member['id']}/")
        after = {httpx.get(logs, headers=headers).status_code for _ in range(5)}
        if before != 200 or not after <= {403, 404}:
            trial.wrong(f"a member's requests: {before}, and {after} after the removal")


# --- logs ---------------------------------------------------------------------------------------------------


def rebuild(trial: Trial) -> None:
    """The logs are rebuilt under load: killed in the middle, and then to the end."""
    for _ in trial.moments(1, last=0.3):
        began = subprocess.Popen(
            [sys.executable, "manage.py", "rebuild_logs"],
            cwd=BASE,
            env=trial.deployment.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        with contextlib.suppress(AssertionError):
            wait_for(lambda: _count_versions(trial) > 1, "a second version", within=10, pause=0.002)
        began.kill()
        began.wait()
    trial.result.kills += 1
    for _ in range(2):
        trial.note(trial.deployment.manage("rebuild_logs").stdout.strip().splitlines()[0])


def _count_versions(trial: Trial) -> int:
    return trial.deployment.ask("SELECT count(*) FROM projection_checkpoint WHERE name = 'delivery_log'")[0][
        0
    ]


# --- the destinations ---------------------------------------------------------------------------------------


def answers_lost(trial: Trial) -> None:
    """A fifth of the connections is reset after the request was read."""
    trial.receiver.behave("*", reset=0.2)
    trial.until_share(0.7)


def answers_late(trial: Trial) -> None:
    """Some answers come after the deadline."""
    trial.receiver.behave("*", delay=[0.0, 1.3])
    trial.until_share(0.7)


def answers_refused(trial: Trial) -> None:
    """503 for some seconds: circuits open, probes go, circuits close."""
    trial.receiver.behave("*", status=503)
    trial.until_share(0.5)


def readers_beside(trial: Trial) -> None:
    """A long transaction of somebody else stays open: only its own events may wait for it."""
    with trial.deployment.sql(keeper.APPLICATION) as connection, connection.transaction():
        connection.execute("SELECT pg_current_xact_id()")
        trial.until_share(0.8)


LIFE = (
    Fault("q2-truncated", "Q2's tables truncated, and a worker killed", q2_truncated),
    Fault("secret-key", "SECRET_KEY changed", secret_key_changed, rate=100),
    Fault("clock", "clock of one worker off by an hour, ahead and behind", clock_off, rate=80),
    Fault("same-id", "the same id 50 times at once, same bytes", same_id),
    Fault("same-id-other-bytes", "the same id 50 times at once, other bytes", same_id_other_bytes),
    Fault("commit-order", "commit order inverted by transactions that stay open", commit_order),
    Fault("foreign-transaction", "a foreign transaction stays open", readers_beside),
    Fault("noisy-neighbour", "one account posting at 100 times the rest", noisy_neighbour),
    Fault("destination-edited", "destination edited while rows wait", destination_edited),
    Fault("destination-disabled", "destination disabled while rows wait", destination_disabled, may_end=True),
    Fault("destination-deleted", "destination deleted while rows wait", destination_deleted, may_end=True),
    Fault("account-deleted", "account deleted under load", account_deleted),
    Fault("token-rotated", "token rotated under load", token_rotated),
    Fault("member-removed", "member removed during a session", member_removed),
    Fault("rebuild", "rebuild under load, killed in the middle, and again", rebuild),
    Fault("answers-lost", "destination resets connections after reading", answers_lost),
    Fault("answers-late", "destination answers after the deadline", answers_late),
    Fault("answers-refused", "destination answers 503 for a while", answers_refused),
)
