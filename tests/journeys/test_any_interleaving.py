"""Whatever is done when, and wherever a process dies: do outbox, blocks and logs keep what they promise?

A hypothesis state machine does the real verbs in any order, each in a transaction that ends at once, dies
before or after its commit, or stops in the middle while the others go on; and holds the real tables against
the model after every step. Time goes by when the machine says so: what is due later is made due.

    MACHINE_EXAMPLES=2000 .venv/bin/python -m pytest tests/journeys/test_any_interleaving.py -s --timeout 0

With this variable, what fails is also made small, which takes minutes.
"""

import asyncio
import contextlib
import itertools
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from django.db import OperationalError
from django.test import override_settings
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from psycopg.errors import LockNotAvailable

from accounts import operations
from config import owner as owners
from delivery import rebuild
from eventstore import connections, verify
from outbox import claims, requests
from outbox.claims import Claim, Settlement
from outbox.retry import Verdict
from tests import databases
from tests.eventstore import stores
from tests.journeys.model import SUSPECT, Fact, Model, Row, Told
from tests.outbox import people

EXAMPLES = int(os.environ.get("MACHINE_EXAMPLES", "40"))
PHASES = [Phase.explicit, Phase.reuse, Phase.generate]
PHASES += [Phase.shrink] if "MACHINE_EXAMPLES" in os.environ else []
STEPS = 80
STOPPED = 2  # at most at a time
LATER_MS = 600_000
BODY = b'{"a": 1.10}'


class End(Enum):
    """How a process ends the transaction of its verb."""

    WELL = "it commits and goes on"
    UNHEARD = "it dies after the commit"
    KILLED = "it dies before the commit"
    STOPPED = "it stops in the middle"
    LATE = "it commits, and had its transaction's id long before, as who waits for a lock has"


class Wish(Enum):
    """What a worker has to tell of an attempt that it sent, or of a delivery that it may not send."""

    SUCCESS = (Verdict.SUCCEEDED, "succeeded", 0)
    RETRY = (Verdict.RETRY, "attempted", 0)
    RETRY_LATER = (Verdict.RETRY, "attempted", LATER_MS)
    EXHAUSTED = (Verdict.EXHAUSTED, "exhausted", 0)
    CANCELLED = (Verdict.CANCELLED, "cancelled", 0)


@dataclass(eq=False)
class Lease:
    """A claim that a worker heard of. Unsent ones may be given back or called off; a zombie keeps its own."""

    claim: Claim
    sent: bool = False
    done: bool = False  # given back or called off: not to be sent any more

    def fact(self, wish: Wish) -> Fact:
        _, kind, _ = wish.value
        return Fact(kind, self.claim.attempt if self.sent else None)

    def settlement(self, wish: Wish) -> Settlement:
        verdict, _, delay_ms = wish.value
        tells = {"attempt": self.claim.attempt} if self.sent else {}
        return Settlement(self.claim, verdict, tells | self.claim.ids | {"reason": "x"}, delay_ms)


class Process:
    """A connection on which a verb can be stopped in its middle."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.connection = loop.run_until_complete(connections.connect(name="process"))
        self.run("SET lock_timeout = '20ms'; SET idle_in_transaction_session_timeout = 0", prepare=False)

    def close(self) -> None:
        self.loop.run_until_complete(self.connection.close())

    def call(self, verb: Callable[..., Any]) -> Any:
        return self.loop.run_until_complete(verb(self.connection))

    def run(self, statement: str, *values: Any, prepare: bool = True) -> list[Any]:
        async def execute(connection: Any) -> list[Any]:
            cursor = await connection.execute(statement, values or None, prepare=prepare, binary=prepare)
            return await cursor.fetchall() if cursor.description else []

        return self.call(execute)

    def told(self) -> dict[UUID, list[Fact]]:
        """What this transaction appended to the streams of deliveries."""
        rows = self.run(
            "SELECT stream_id, substr(type, 10), (data ->> 'attempt')::int FROM event"
            " WHERE scope = 0 AND xid = pg_current_xact_id_if_assigned() AND type LIKE 'delivery.%%'"
            " AND epoch = pusher.epoch(0::smallint) ORDER BY seq"
        )
        found: dict[UUID, list[Fact]] = defaultdict(list)
        for stream, kind, attempt in rows:
            found[stream].append(Fact(kind, attempt))
        return dict(found)


@dataclass
class Destination:
    id: UUID
    owner: people.Account
    state: str = "active"


@dataclass(frozen=True)
class Seen:
    """A row as it is, and when it may go: that is the database's to say, not the model's."""

    row: Row
    version: int
    due: bool
    held: bool
    rests: bool  # its destination takes nothing but a probe, which this is not


class World:
    """The database and its connections: the same for all examples, until one of them fails."""

    def __init__(self, template: databases.Template) -> None:
        self.template = template
        self.copies = itertools.count()
        self.loop = asyncio.new_event_loop()
        self.open = contextlib.ExitStack()
        self.is_sound = False

    def begin(self) -> None:
        if not self.is_sound:  # what one left damaged would fail all that follow
            self.open.close()
            self.database = self.open.enter_context(
                databases.copy(self.template, f"world_{next(self.copies)}")
            )
            self.processes = [Process(self.loop) for _ in range(STOPPED + 2)]
            for process in self.processes:
                self.open.callback(process.close)
            self.sql = self.database.connect()
            self.sql.execute("SET lock_timeout = '20ms'")
        self.is_sound = False

    def close(self) -> None:
        self.open.close()
        self.loop.close()


class Interleavings(RuleBasedStateMachine):
    ends = st.sampled_from([End.WELL] * 4 + [End.LATE] * 2 + list(End))
    some = st.integers(0, 15)

    def __init__(self, world: World) -> None:
        super().__init__()
        world.begin()
        self.world = world
        self.sql = world.sql
        self.free = list(world.processes)
        self.leases: list[Lease] = []  # of the living and of zombies
        self.early: list[Process] = []
        self.stopped: list[tuple[Process, Callable[[], list[Any]]]] = []
        self.model = Model()
        self.before = stores.number(self.sql, "SELECT coalesce(max(position), 0) FROM event_position")
        self.accounts = [people.account(limit=1000, destinations=2) for _ in range(2)]
        self.destinations = [Destination(key, one) for one in self.accounts for key in one.destinations]

    # --- one verb in one process ---

    def do(
        self, end: End, verb: Callable[..., Any], judge: Callable[[Any, Told], Callable[[], Any]]
    ) -> list[Any]:
        """`judge` refuses what may not be; it answers what to do (and what is news) once it is committed."""
        # Nobody tells of a delivery in a transaction that is older than its acceptance.
        late = end is End.LATE and self.early and self.opened_at == len(self.model.deliveries)
        process = self.early.pop() if late else self.begun()
        try:
            answer = process.call(verb)
        except LockNotAvailable:
            assert self.stopped, "nobody was in the way"
            end, changes = End.KILLED, None
        else:
            changes = judge(answer, process.told())
        if end is End.STOPPED and len(self.stopped) < STOPPED:
            self.stopped.append((process, changes))
            return []
        return self.finish(process, changes, end)

    def begun(self) -> Process:
        process = self.free.pop()
        process.run("BEGIN", prepare=False)
        return process

    def heard(self, which: Sequence[int]) -> list[Lease]:
        """Counted from the newest. (No Bundle: how many there are may differ from run to run.)"""
        return [self.leases[-1 - one] for one in which if one < len(self.leases)]

    def finish(self, process: Process, changes: Callable[[], Any], end: End) -> list[Any]:
        process.run("ROLLBACK" if end is End.KILLED else "COMMIT", prepare=False)
        self.free.append(process)
        if end is End.KILLED:
            return []
        news = changes() or []
        return [] if end is End.UNHEARD else news

    @rule(end=st.sampled_from([End.WELL, End.KILLED]), which=st.integers(0, STOPPED - 1))
    def what_was_stopped_goes_on_or_dies(self, end, which):
        if self.stopped:
            process, changes = self.stopped.pop(which % len(self.stopped))
            self.leases += self.finish(process, changes, end)

    @rule()
    def a_transaction_is_opened(self):
        """It does something later, or nothing: the blocks have to do without it until then."""
        while self.early:
            self.finish(self.early.pop(), list, End.WELL)
        process = self.begun()
        process.run("SELECT pg_current_xact_id()::text")
        self.early.append(process)
        self.opened_at = len(self.model.deliveries)

    # --- the outbox ---

    @initialize()
    def the_first_events_and_attempts(self):
        for who in (0, 1):
            self.accept(End.WELL, who, {1, 2, 3})
        self.a_transaction_is_opened()
        self.a_worker_works(4, Wish.RETRY, End.WELL)

    @rule(
        rows=st.integers(1, 4),
        wish=st.sampled_from([*Wish, Wish.EXHAUSTED]),
        end=st.sampled_from([End.WELL, End.LATE]),
    )
    def a_worker_works(self, rows, wish, end):
        """So that all goes on, whatever else is done: nobody dies here. The first of its leases it keeps."""
        kept, *taken = self.taken(End.WELL, rows, suspects=True) or [None]
        self.send_and_settle_these(end, [(lease, wish) for lease in taken])
        self.leases += [kept] if kept else []

    @rule(
        end=ends,
        who=st.integers(0, 1),
        ids=st.sets(st.integers(0, 30), min_size=1, max_size=4),
    )
    def accept(self, end, who, ids):
        account = self.accounts[who]
        client_ids = [str(one) for one in sorted(ids)]
        statement, values = people.accepting(account, client_ids, body=BODY)
        fan_out = {one.id for one in self.destinations if one.owner is account and one.state == "active"}

        async def verb(connection):
            verdicts = await (await connection.execute(statement, values, binary=True)).fetchall()
            rows = await connection.execute(
                "SELECT event_id, delivery_id, destination_id FROM outbox WHERE event_id = ANY(%b)",
                [values[-1]],
            )
            return [verdict[0] for verdict in verdicts], await rows.fetchall()

        def judge(answer, told):
            verdicts, rows = answer
            fans = defaultdict(dict)
            for event, delivery, destination in rows:
                fans[event][delivery] = destination
            new = {}
            for verdict, client_id, event in zip(verdicts, client_ids, values[-1], strict=True):
                if verdict == "busy":
                    assert self.stopped, "nobody had the gate"
                    continue
                known = (account.id, client_id) in self.model.client_ids
                assert verdict == ("duplicate" if known else "accepted")
                if not known:
                    assert set(fans[event].values()) == fan_out
                    new[client_id] = fans[event]
            assert told == {}
            return partial(change, new)

        def change(new):
            for client_id, fan in new.items():
                self.model.accepted(account.id, client_id, fan)

        self.do(end, verb, judge)

    @rule(end=ends, rows=st.sampled_from([100, 1, 2, 3]), suspects=st.booleans())
    def claim(self, end, rows, suspects):
        self.leases += self.taken(end, rows, suspects=suspects)

    def taken(self, end: End, rows: int, *, suspects: bool) -> list[Lease]:
        before, alone = self.seen(), not self.stopped

        def judge(batch, told):
            taken = {claim.delivery_id: claim for claim in batch.claims}
            self.judge_claim(before, taken, suspects=suspects, told=told)
            if rows == 100 and alone and not any(claim.lapses >= SUSPECT for claim in batch.claims):
                wanted = {
                    key
                    for key, one in before.items()
                    if one.due and not one.held and not one.rests and one.row.lapses < SUSPECT
                }
                assert taken.keys() | told.keys() == wanted
            return partial(change, batch.claims, told)

        def change(taken, told):
            self.model.claimed(taken, told)
            return [Lease(claim) for claim in taken]

        return self.do(end, partial(claims.claim, rows=rows, size=1 << 30, suspects=suspects), judge)

    def judge_claim(self, before, taken, *, suspects, told):
        for key in taken.keys() | told.keys():
            assert before[key].due
            assert not before[key].held
            assert not before[key].rests
        for key, claim in taken.items():
            assert (claim.body, claim.account_id) == (BODY, self.model.deliveries[key].account)
            assert (key in told) == (before[key].row.fence != 0), "an interruption, if the lease lapsed"
            if claim.lapses >= SUSPECT:
                assert suspects
                assert len(taken) == 1
                under_way = [
                    one
                    for one in before.values()
                    if one.row.lapses >= SUSPECT and one.row.fence and not one.due
                ]
                assert not under_way
        for key in told.keys() - taken.keys():
            assert before[key].row.lapses + 1 >= SUSPECT, "interrupted and left there"

    @rule(which=some)
    def send(self, which):
        for lease in self.heard([which]):
            self.send_it(lease)

    def send_it(self, lease: Lease) -> None:
        """Whoever has a lease may be slow to use it: it may have lapsed, and be another's."""
        if not lease.sent and not lease.done:
            sent = self.model.deliveries[lease.claim.delivery_id].sent
            assert lease.claim.attempt not in sent, "the receiver saw this attempt before"
            sent.add(lease.claim.attempt)
            lease.sent = True

    @rule(end=ends, which=st.lists(some, min_size=1, max_size=4, unique=True), wish=st.sampled_from(Wish))
    def send_and_settle(self, end, which, wish):
        self.send_and_settle_these(end, [(lease, wish) for lease in self.heard(which)])

    def send_and_settle_these(self, end: End, wishes: Sequence[tuple[Lease, Wish]]) -> None:
        for lease, wish in wishes:
            if wish is not Wish.CANCELLED:
                self.send_it(lease)
        wishes = [(lease, wish) for lease, wish in wishes if lease.sent == (wish is not Wish.CANCELLED)]
        for lease, _ in wishes:
            lease.done = True
        ours = {lease: lease.fact(wish) for lease, wish in wishes if self.model.is_held_by(lease.claim)}

        def judge(answer, told):
            assert answer == {(lease.claim.delivery_id, lease.claim.attempt) for lease in ours}
            assert told == {lease.claim.delivery_id: [fact] for lease, fact in ours.items()}
            return change

        def change():
            for lease, fact in ours.items():
                self.model.settled(lease.claim, fact)

        settlements = [lease.settlement(wish) for lease, wish in wishes]
        if settlements:
            self.do(end, partial(claims.settle, settlements=settlements), judge)

    @rule(end=ends, which=st.lists(some, min_size=1, max_size=4, unique=True), held=st.booleans())
    def release(self, end, which, held):
        some = self.heard(which)
        unsent = [lease.claim for lease in some if not lease.sent]
        for lease in some:
            lease.done = True
        ours = [claim for claim in unsent if self.model.is_held_by(claim)]

        def change():
            for claim in ours:
                self.model.released(claim)

        self.do(end, partial(claims.release, claims=unsent, held=held), silent(change))

    @rule(end=ends, crowded=st.booleans())
    def hold_or_bring_back(self, end, crowded):
        verb = partial(claims.crowd, destination_ids=[one.id for one in self.destinations])
        self.do(end, verb if crowded else claims.tend, silent(list))

    @rule(end=ends, which=st.integers(0, 50), over=st.booleans())
    def redeliver(self, end, which, over):
        keys = [key for key, one in self.model.deliveries.items() if (one.row is None) == over]
        if not keys:
            return
        key = keys[which % len(keys)]
        one = self.model.deliveries[key]
        destination = next(each for each in self.destinations if each.id == one.destination)
        if one.row is not None:
            expected = "pending"
        elif destination.state != "active":
            expected = destination.state
        else:
            expected = "requested"

        async def verb(connection):
            values = [0, one.account, key, destination.owner.admin.pk]
            return await (await connection.execute(requests._REDELIVER, values)).fetchone()

        def judge(answer, told):
            assert answer == (expected,)
            assert told == ({key: [Fact("requested", None)]} if expected == "requested" else {})
            return partial(self.model.requested, key) if told else list

        self.do(end, verb, judge)

    @rule(end=ends, most=st.integers(1, 4))
    def purge(self, end, most):
        before = self.seen()

        def judge(answer, told):
            assert answer == len(told)
            for key in told:
                assert self.state(self.model.deliveries[key].destination) != "active"
                assert before[key].due or not before[key].row.fence, "it was under way"
            return partial(self.model.purged, told)

        self.do(end, partial(claims.purge, most=most), judge)

    @rule(which=st.integers(0, 3), what=st.sampled_from(["inactive", "active", "pause", "resume", "deleted"]))
    def change_a_destination(self, which, what):
        one = self.destinations[which]
        if one.state == "deleted":
            return
        names = {"actor": one.owner.admin, "account_id": one.owner.id, "destination_id": one.id}
        try:
            match what:
                case "pause":
                    operations.pause_destination(**names)
                case "resume":
                    operations.resume_destination(**names)
                case "deleted":
                    operations.delete_destination(**names)
                case _:
                    operations.update_destination(**names, changes={"active": what == "active"})
        except OperationalError:
            assert self.stopped, "nobody was in the way"
        else:
            one.state = one.state if what in ("pause", "resume") else what

    # --- time goes by ---

    @rule(which=some)
    def a_lease_ends(self, which):
        for lease in self.heard([which]):
            self.make_due(f"fence <> 0 AND delivery_id = '{lease.claim.delivery_id}'")

    @rule(what=st.sampled_from(["schedules", "leases", "probes"]))
    def time_goes_by(self, what):
        match what:
            case "schedules":
                self.make_due("fence = 0")
            case "leases":
                self.make_due("fence <> 0")
            case "probes":
                self.sql.execute(
                    "UPDATE lane SET probe_at = probe_at - interval '1 day' WHERE destination_id IN"
                    " (SELECT destination_id FROM lane WHERE resting FOR UPDATE SKIP LOCKED)"
                )

    def make_due(self, condition: str) -> None:
        self.sql.execute(
            "UPDATE outbox SET due_at = clock_timestamp() - interval '1 second' WHERE delivery_id IN"
            f" (SELECT delivery_id FROM outbox WHERE {condition} FOR UPDATE SKIP LOCKED)"
        )

    # --- the history and the logs ---

    @rule(end=ends, most=st.integers(1, 6))
    def seal(self, end, most):
        self.do(end, partial(execute, f"SELECT pusher.seal(0::smallint, {most})"), silent(list))

    @rule(end=ends, blocks=st.integers(1, 3))
    def project(self, end, blocks):
        self.do(end, partial(execute, f"SELECT pusher.project('delivery_log', {blocks})"), silent(list))

    # --- what must hold ---

    def state(self, destination: UUID) -> str:
        return next(one.state for one in self.destinations if one.id == destination)

    def seen(self) -> dict[UUID, Seen]:
        rows = self.sql.execute(_SEEN).fetchall()
        return {key: Seen(Row(*rest[:4]), *rest[4:]) for key, *rest in rows}

    @invariant()
    def the_tables_are_as_the_model(self):
        assert {key: (one.row, one.version) for key, one in self.seen().items()} == self.model.rows()
        facts = self.sql.execute(
            "SELECT stream_id, version, substr(type, 10), (data ->> 'attempt')::int FROM event"
            " WHERE account_id = ANY (%s) AND type LIKE 'delivery.%%' ORDER BY stream_id, version",
            [[one.id for one in self.accounts]],
        ).fetchall()
        stories = {}
        for key, rows in itertools.groupby(facts, key=lambda fact: fact[0]):
            versions, kinds, attempts = zip(*(row[1:] for row in rows), strict=True)
            assert list(versions) == list(range(1, len(versions) + 1))
            stories[key] = [Fact(*fact) for fact in zip(kinds, attempts, strict=True)]
        assert stories == self.model.stories()

    def teardown(self) -> None:
        try:
            self.everything_heals()
            self.history_and_logs_are_whole()
            self.world.is_sound = True
        finally:
            for process in self.world.processes:
                process.run("ROLLBACK", prepare=False)

    def everything_heals(self) -> None:
        """Nobody helps: workers claim and send, the keepers of the house do their rounds, time goes by."""
        for process, changes in [*self.stopped, *((early, list) for early in self.early)]:
            self.finish(process, changes, End.WELL)
        self.stopped, self.early = [], []
        for one in self.destinations:
            if one.state != "deleted":
                operations.resume_destination(
                    actor=one.owner.admin, account_id=one.owner.id, destination_id=one.id
                )
        for _ in range(200):
            if not self.model.rows():
                break
            for what in ("schedules", "leases", "probes"):
                self.time_goes_by(what)
            self.hold_or_bring_back(End.WELL, crowded=False)
            self.purge(End.WELL, most=100)
            for suspects in (False, True):
                taken = self.taken(End.WELL, 100, suspects=suspects)
                gone = [lease for lease in taken if self.state(lease.claim.destination_id) != "active"]
                self.send_and_settle_these(
                    End.WELL, [(lease, Wish.CANCELLED if lease in gone else Wish.SUCCESS) for lease in taken]
                )
            self.the_tables_are_as_the_model()
        self.model.check()

    def history_and_logs_are_whole(self) -> None:
        stores.seal_all(self.sql, most=1)  # the more cuts, the more may be wrong
        rows = stores.history(self.sql, after=self.before)
        assert [position for position, *_ in rows] == [self.before + n for n in range(1, len(rows) + 1)]
        assert verify.verify(self.sql).damages == []
        with owners.acting():  # which brings the live ones, wherever they are, to the end, and compares
            rebuild.rebuild(lambda *_: None)
        logs = self.sql.execute(
            "SELECT delivery_id, status, attempts FROM delivery_log WHERE account_id = ANY (%s)",
            [[one.id for one in self.accounts]],
        )
        logged = {key: (status, attempts) for key, status, attempts in logs.fetchall()}
        assert logged == {key: one.logged for key, one in self.model.deliveries.items()}


_SEEN = """
SELECT o.delivery_id, o.attempt, o.base, o.fence, o.lapses, o.version, o.due_at <= clock_timestamp(), o.held,
       coalesce(l.resting AND r.active AND l.probe IS DISTINCT FROM o.delivery_id, false)
  FROM outbox o
  LEFT JOIN lane l USING (destination_id)
  LEFT JOIN pusher.route r USING (destination_id)
"""


def silent(change: Callable[[], Any]) -> Callable[[Any, Told], Callable[[], Any]]:
    """It tells nothing of any delivery."""

    def judge(_answer: Any, told: Told) -> Callable[[], Any]:
        assert told == {}
        return change

    return judge


async def execute(statement: str, connection: Any) -> Any:
    return await (await connection.execute(statement)).fetchone()


@pytest.mark.slow
@override_settings(LEASE_SECONDS=3600, CIRCUIT_FAILURES_IN_A_ROW=3, READY_PER_DESTINATION=2)
def test_the_model_is_kept(template, django_db_blocker):
    world = World(template)
    with django_db_blocker.unblock(), contextlib.closing(world):
        run_state_machine_as_test(
            lambda: Interleavings(world),
            settings=settings(max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None, phases=PHASES),
        )
