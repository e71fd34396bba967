"""`check_invariants` names the invariant that was broken, and no other; a system at work breaks none."""

import hashlib
import io
import itertools
import json
import time
from types import SimpleNamespace
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import connections
from django_q.models import OrmQ
from django_q.signing import SignedPackage
from psycopg import errors

from accounts import operations
from outbox import invariants, requests
from outbox.retry import Verdict
from tests import databases
from tests.delivery import logs
from tests.outbox import people
from tests.outbox.test_claims import Engine

BODY = b'{"a": 1}'
OF_THE_PAST = (
    "UPDATE event SET recorded_at = recorded_at - interval '1 hour' WHERE type !~ '^(event|delivery)'"
)
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def lived_in(template, django_db_blocker):
    """Accounts and deliveries at every point of their lives; what was sealed, and what was not yet."""
    with django_db_blocker.unblock(), databases.copy(template, "lived_in") as made:
        ids = live(made)
        for connection in made.opened:
            connection.close()
        connections.close_all()
        yield SimpleNamespace(template=databases.Template(made.name), **ids)


@pytest.fixture
def system(lived_in, django_db_blocker):
    """A copy of it, and the owner's connection, which no trigger stops."""
    with django_db_blocker.unblock(), databases.copy(lived_in.template, str(next(_numbers))) as made:
        owner = made.connect_owner()
        for table in ("event", "event_key", "event_position", "block"):
            owner.execute(f"ALTER TABLE {table} DISABLE TRIGGER append_only")
        yield SimpleNamespace(owner=owner, database=made, **{**vars(lived_in), "template": None})


def live(made):
    owner, engine = made.connect_owner(), Engine()
    alice, bob, carol = people.account(limit=50, destinations=2), people.account(), people.account()
    owner.execute("ALTER TABLE event DISABLE TRIGGER append_only")
    owner.execute(OF_THE_PAST)
    owner.execute("ALTER TABLE event ENABLE ALWAYS TRIGGER append_only")
    people.events(alice, [f"order-{n}" for n in range(4)], body=BODY)
    people.events(bob, ["1", "2"], body=BODY)
    taken = engine.take()
    engine.finish(taken[:3])
    engine.finish(taken[3:5], Verdict.RETRY, delay_ms=3_600_000)
    engine.finish(taken[5:6], Verdict.EXHAUSTED)
    owner.execute("UPDATE outbox SET due_at = clock_timestamp() WHERE fence <> 0")  # their workers died
    lapsed = engine.take()
    engine.finish(lapsed[:1])
    requests.redeliver(actor=alice.admin, account_id=alice.id, delivery_id=taken[0].delivery_id)
    requests.send_sample(actor=alice.admin, account_id=alice.id, destination_id=alice.destinations[0])
    engine.finish(engine.take(), Verdict.RETRY, delay_ms=3_600_000)
    operations.delete_account(actor=bob.admin, account_id=bob.id)
    while engine.purge():
        pass
    logs.project(made.connect())
    people.events(carol, ["c1", "c2", "c3"], body=BODY)  # neither sealed nor projected from here on
    people.events(alice, ["late-1"], body=BODY)
    engine.finish(engine.take(rows=1))
    engine.take(rows=1)
    engine.close()
    return {"alice": alice, "carol": carol}


def findings(*arguments):
    """What `--json` tells of each invariant, and the exit status."""
    out, status = io.StringIO(), 0
    try:
        call_command("check_invariants", "--json", *map(str, arguments), stdout=out)
    except SystemExit as ending:
        status = ending.code
    return {one["invariant"]: one for one in json.loads(out.getvalue())}, status


def violated(*arguments):
    found, status = findings(*arguments)
    names = [number for number, one in found.items() if one["state"] == "violated"]
    assert status == bool(names)
    assert all(found[number]["examples"] for number in names)
    return names


def test_a_system_at_work_breaks_nothing(system):
    found, status = findings()
    states = {number: one["state"] for number, one in found.items()}
    assert status == 0, found
    needs_more = ("I3", "I5", "I6", "I7", "I12", "I13", "I14")
    assert states == {number: "not checked" if number in needs_more else "ok" for number in found}
    assert found["I1"]["checked"] == {"events": 11}
    assert found["I4"]["checked"] == {"deliveries": 16, "fan-outs": 10}
    assert found["I8"]["checked"] == {"log rows": 9}


LATE = "(SELECT stream_id FROM event WHERE data ->> 'event_id' = 'late-1')"
UNENDED = "SELECT delivery_id FROM outbox WHERE fence = 0 AND event_id <> " + LATE + " LIMIT 1"
SECOND_OF_ITS_ID = (
    """
WITH second AS (
    INSERT INTO event (epoch, account_id, stream_id, version, type, data, payload_digest, recorded_at)
    SELECT epoch, account_id, gen_random_uuid(), 1, type, data || '{"deliveries": []}', payload_digest,
           recorded_at - interval '2 hours' FROM event WHERE data ->> 'event_id' = 'late-1'
    RETURNING account_id, stream_id)
INSERT INTO payload SELECT s.account_id, s.stream_id, p.body, p.salt
  FROM second s, payload p WHERE p.event_id = """
    + LATE
)
ONE_PAIR_LESS = """
DELETE FROM outbox WHERE delivery_id = (
    SELECT (data -> 'deliveries' -> 0 ->> 0)::uuid FROM event WHERE data ->> 'event_id' = 'late-1');
UPDATE event SET data = data #- '{deliveries,0}' WHERE data ->> 'event_id' = 'late-1'
"""
BEFORE_ITS_DESTINATION = """
UPDATE event SET recorded_at = recorded_at - interval '2 hours' WHERE data ->> 'event_id' = 'late-1'
"""
ROW_OF_NO_EVENT = """
INSERT INTO outbox (account_id, delivery_id, event_id, destination_id, epoch, size, due_at)
SELECT account_id, gen_random_uuid(), event_id, destination_id, epoch, size, due_at FROM outbox LIMIT 1
"""
# The one that succeeded and is not sealed yet: its stream is this one event.
LAST = "seq = (SELECT max(seq) FROM event WHERE type = 'delivery.succeeded')"
A_STEP = "UPDATE event SET {} WHERE " + LAST
AGAIN = (
    """
INSERT INTO event (epoch, account_id, stream_id, version, type, data)
SELECT epoch, account_id, stream_id, version + 1, 'delivery.attempted', data || '{"attempt": 2}'
  FROM event WHERE """
    + LAST
)

BREAKS = [
    ("I1", "UPDATE payload SET body = '{\"b\": 1}' WHERE event_id = " + LATE),  # a byte
    ("I1", "DELETE FROM payload WHERE event_id = " + LATE),  # nobody deleted the account
    ("I1", "INSERT INTO event_key SELECT account_id, 'lost', gen_random_uuid() FROM event LIMIT 1"),
    ("I2", SECOND_OF_ITS_ID),
    ("I2", "DELETE FROM event_key WHERE event_id = " + LATE),  # a repost would be another event
    ("I4", f"DELETE FROM outbox WHERE delivery_id = ({UNENDED})"),  # nobody will send it
    ("I4", f"UPDATE outbox SET attempt = attempt + 1 WHERE delivery_id = ({UNENDED})"),
    ("I4", f"UPDATE outbox SET version = version + 1 WHERE delivery_id = ({UNENDED})"),
    ("I4", f"UPDATE outbox SET destination_id = gen_random_uuid() WHERE delivery_id = ({UNENDED})"),
    ("I4", A_STEP.format("data = data || '{\"attempt\": 2}'")),
    ("I4", A_STEP.format("data = data - 'attempt'")),
    ("I4", A_STEP.format("version = 2")),
    ("I4", A_STEP.format("type = 'delivery.attempted'")),  # not ended: a row must wait
    ("I4", A_STEP.format("data = data || '{\"destination\": \"00000000-0000-0000-0000-000000000000\"}'")),
    ("I4", AGAIN),
    ("I4", ONE_PAIR_LESS),  # a destination that was active gets nothing
    ("I4", BEFORE_ITS_DESTINATION),
    ("I4", ROW_OF_NO_EVENT),
    ("I8", "UPDATE delivery_log SET attempts = 7 WHERE status = 'failed'"),
    ("I8", "UPDATE delivery_log SET response_status = 201 WHERE status = 'success'"),
    ("I8", "DELETE FROM delivery_log WHERE status = 'success'"),
    ("I8", "UPDATE delivery_log SET delivery_id = gen_random_uuid() WHERE status = 'success'"),
    ("I9", "UPDATE event SET data = data || '{\"text\": \"b\"}' WHERE type = 'user.registered'"),
    ("I9", "DELETE FROM event_position WHERE position = 1"),
    ("I10", "UPDATE outbox SET due_at = due_at - interval '2 hours' WHERE fence = 0"),
    ("I10", "UPDATE outbox SET due_at = due_at - interval '1 hour' WHERE fence <> 0"),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("invariant", "change"), BREAKS)
def test_what_is_broken_in_the_store_is_named(system, invariant, change):
    system.owner.execute(change)
    assert violated() == [invariant]


@pytest.mark.slow
def test_more_than_the_limit_in_a_second_is_found(system):
    for first in (4, 9):  # each within the limit of 5, were the others not forgotten
        system.owner.execute("DELETE FROM admission")
        people.events(system.carol, [f"c{n}" for n in range(first, first + 5)], body=BODY)
    assert violated() == ["I11"]


HELD = "UPDATE outbox SET held = true WHERE fence = 0"


@pytest.mark.slow
def test_rows_that_nothing_holds_are_found_by_looking_again(system):
    system.owner.execute(HELD)
    assert violated("--due-within", 1, "--only", "I10") == ["I10"]
    system.owner.execute("UPDATE accounts_destination SET paused = true")
    assert violated("--due-within", 1, "--only", "I10") == []


@pytest.mark.slow
def test_what_became_due_while_others_were_checked_is_in_time(system):
    """The snapshot stands still, and the clock goes on: rows are as late as they were in the snapshot."""
    system.owner.execute("UPDATE outbox SET due_at = clock_timestamp(), held = false")
    due = "SELECT violated FROM pusher.check_due('0.4 s', '60 s')"
    with system.owner.transaction():
        system.owner.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        assert system.owner.execute(due).fetchone() == (0,)
        time.sleep(0.5)
        assert system.owner.execute(due).fetchone() == (0,)
    assert system.owner.execute(due).fetchone() == (11,)


@pytest.mark.slow
def test_a_resting_destination_that_nobody_probes_is_found(system):
    system.owner.execute(HELD)
    system.owner.execute(
        "INSERT INTO lane (destination_id, resting, probe_at)"
        " SELECT DISTINCT destination_id, true, now() FROM outbox WHERE held"
        " ON CONFLICT (destination_id) DO UPDATE SET resting = true, probe_at = now()"
    )
    assert violated("--only", "I10") == []
    system.owner.execute("UPDATE lane SET probe_at = probe_at - interval '1 hour'")
    assert violated("--only", "I10") == ["I10"]


ACCEPTED = "SELECT account_id, client_id, event_id FROM event_key WHERE client_id NOT LIKE 'test-%'"
ATTEMPTED = """
SELECT extract(epoch FROM e.recorded_at)::float8 - 0.001, e.stream_id, (e.data ->> 'attempt')::int,
       k.client_id, encode(sha256(p.body), 'hex'),
       CASE WHEN e.type = 'delivery.succeeded' THEN 200 ELSE 500 END
  FROM event e JOIN event_key k ON k.event_id = (e.data ->> 'event')::uuid
  LEFT JOIN payload p USING (event_id) WHERE e.data ? 'attempt' ORDER BY e.seq
"""


class Papers:
    """What a client and a receiver would have written of this system."""

    def __init__(self, system, folder):
        self.ledger, self.sightings = folder / "ledger.jsonl", folder / "sightings.jsonl"
        self.arguments = ["--ledger", self.ledger, "--sightings", self.sightings]
        sql = system.owner
        now = time.time()
        digest = hashlib.sha256(BODY).hexdigest()
        self.requests = [
            {
                "event_id": client_id, "account": str(account), "sha256": digest, "size": len(BODY),
                "outcome": "acknowledged", "status": 202, "event": str(event), "sent_at": now,
                "answered_at": now,
            }
            for account, client_id, event in sql.execute(ACCEPTED).fetchall()
        ]  # fmt: skip
        self.seen = [
            {
                "at": at, "destination": "/hook", "delivery_id": str(delivery), "attempt": attempt,
                "method": "POST", "event_id": client_id, "sha256": digest_of_body, "signed": True,
                "status": status,
            }
            for at, delivery, attempt, client_id, digest_of_body, status in sql.execute(ATTEMPTED).fetchall()
        ]  # fmt: skip

    def request(self, **changes):
        """Another line like the last one."""
        self.requests.append(self.requests[-1] | changes)

    def sighting(self, **changes):
        self.seen.append(self.seen[-1] | changes)

    def violate(self, *more):
        for path, lines in ((self.ledger, self.requests), (self.sightings, self.seen)):
            path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return violated(*self.arguments, *more)


@pytest.fixture
def papers(system, tmp_path):
    return Papers(system, tmp_path)


OTHER = hashlib.sha256(b"other").hexdigest()
REFUSED = {"outcome": "refused", "status": 429, "event": None}


def test_papers_that_agree_with_the_store_break_nothing(papers):
    first = papers.requests[0]
    papers.request(**REFUSED)  # before it was posted again
    papers.request(**first | REFUSED | {"status": 409, "sha256": OTHER})
    papers.request(event_id="never", **REFUSED)
    papers.request(event_id="lost", outcome="unknown", status=None, event=None)
    papers.request(event_id="away", outcome="unknown", status=503, event=None)
    papers.violate()
    found, status = findings(*papers.arguments)
    assert status == 0, found
    assert [number for number, one in found.items() if one["state"] != "ok"] == ["I12", "I13"]
    assert found["I14"]["said"].endswith("1 answers 502 to 504 not judged without --fault")


WRITTEN = [
    ("I1", lambda p: p.request(sha256=OTHER)),
    ("I1", lambda p: p.request(event_id="nowhere")),
    (
        "I2",
        lambda p: p.request(event=str(uuid4()), outcome="duplicate", status=200),
    ),  # two answers, two events
    ("I3", lambda p: p.requests.append(p.requests.pop() | REFUSED)),
    ("I5", lambda p: p.seen.pop()),  # succeeded, and nobody saw it
    ("I5", lambda p: p.seen.append(p.seen.pop() | {"signed": False})),
    ("I5", lambda p: p.seen.append(p.seen.pop() | {"status": 500})),
    ("I6", lambda p: p.sighting()),  # the same attempt twice
    ("I6", lambda p: p.sighting(attempt=2)),  # without a record
    ("I7", lambda p: p.sighting(delivery_id=str(uuid4()))),
    ("I7", lambda p: p.seen.append(p.seen.pop() | {"event_id": "another"})),
    ("I7", lambda p: p.seen.append(p.seen.pop() | {"sha256": OTHER})),
    ("I14", lambda p: p.request(event_id="x", outcome="unknown", status=500, event=None)),
]


@pytest.mark.slow
def test_what_the_papers_tell_otherwise_is_named(system, tmp_path):
    for invariant, change in WRITTEN:
        papers = Papers(system, tmp_path)
        change(papers)
        assert papers.violate() == [invariant]


@pytest.mark.slow
def test_a_sighting_after_the_destination_was_gone_is_found(system, papers):
    before = papers.seen[-1]["at"]
    operations.delete_account(actor=system.carol.admin, account_id=system.carol.id)
    papers.seen[-1]["at"] = time.time() + 1.5
    assert papers.violate() == []
    papers.seen[-1]["at"] = time.time() + 2.5
    assert papers.violate() == ["I7"]
    papers.seen[-1]["at"] = before
    destination = system.alice.destinations[0]
    operations.delete_destination(
        actor=system.alice.admin, account_id=system.alice.id, destination_id=destination
    )
    for sighting in papers.seen:
        sighting["at"] += 60
    assert papers.violate() == ["I7"]


@pytest.mark.slow
def test_where_nothing_failed_nothing_may_be_seen_twice_nor_answered_5xx(papers):
    assert papers.violate() == []
    assert papers.violate("--healthy") == ["I6"]  # the fixture has retries
    papers.request(event_id="away", outcome="unknown", status=503, event=None, answered_at=1000.0)
    assert papers.violate("--healthy") == ["I6", "I14"]
    assert papers.violate("--fault", "999/1001") == []
    assert papers.violate("--fault", "1970-01-01T00:00:00/1970-01-01T00:10:00") == ["I14"]


@pytest.mark.slow
def test_after_a_restore_only_what_was_acknowledged_before_the_dump_must_be_there(system, papers):
    dumped = time.time()
    lost = {"event_id": "after the dump", "event": str(uuid4()), "answered_at": dumped + 0.01}
    papers.request(**lost)
    papers.sighting(at=dumped + 0.01, delivery_id=str(uuid4()))
    time.sleep(0.05)
    people.restored(system.database)
    call_command("after_restore", verbosity=0, stdout=io.StringIO())
    assert papers.violate() == ["I1", "I7"]
    assert papers.violate("--acknowledged-before", dumped) == []
    papers.request(**lost | {"answered_at": time.time()})  # after the restore: no excuse
    assert papers.violate("--acknowledged-before", dumped) == ["I1"]


@pytest.mark.slow
def test_an_attempt_of_another_epoch_may_be_seen_again(system, papers):
    people.restored(system.database)
    call_command("after_restore", verbosity=0, stdout=io.StringIO())
    papers.sighting(at=time.time())
    assert papers.violate() == []


@pytest.mark.slow
@pytest.mark.parametrize("start", ["", "1", "12"])
def test_a_canary_is_found_in_task_rows_and_log_files_and_never_shown(system, tmp_path, start):
    canary, log = "tok_Canary-1234567890", tmp_path / "web.log"
    log.write_text('{"event": "all is well"}\n')
    asked = ["--canary", "another-canary", "--canary", canary, "--log", log, "--only", "I13"]
    assert violated(*asked) == []
    OrmQ.objects.create(key="data-pusher", payload=SignedPackage.dumps({"args": (start + canary,)}))
    found, status = findings(*asked)
    assert status == 1
    assert found["I13"]["examples"] == ["canary 2 stands in 1 rows of django_q_ormq"]
    assert canary not in str(found)
    log.write_text(f"x\n{canary}\n")
    found, _ = findings(*asked)
    assert found["I13"]["examples"][1] == f"canary 2 stands in {log}"


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '{"event_id": "1"}',
        '{"outcome": "lost", "account": "1"}',
    ],
)
def test_a_line_that_nobody_understands_is_no_verdict(database, tmp_path, line):
    path = tmp_path / "ledger"
    path.write_text(line + "\n")
    with pytest.raises(CommandError, match="ledger, line 1") as refused:
        call_command("check_invariants", "--ledger", str(path))
    assert refused.value.returncode == 2


@pytest.mark.slow
def test_the_lines_for_people_name_each_invariant_once(system, tmp_path, capsys):
    (tmp_path / "torn").write_text('{"event_id": "1", "acc')  # its writer was killed
    system.owner.execute("DELETE FROM outbox")
    with pytest.raises(SystemExit) as ending:
        call_command("check_invariants", "--ledger", str(tmp_path / "torn"))
    assert ending.value.code == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line.startswith("I")] == [f"I{n}" for n in range(1, 15)]
    assert any(line.startswith("I4  violated") for line in lines)
    assert any("it has not ended, and nobody will send it: no row waits" in line for line in lines)


def test_it_may_not_write_and_runs_as_the_application(system):
    with invariants._connect() as connection, pytest.raises(errors.ReadOnlySqlTransaction):
        connection.execute("DELETE FROM outbox")
