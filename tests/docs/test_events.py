"""Does docs/events.md name all that the history can say, and does what is recorded look as it says?"""

import re
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from uuid import UUID

import pytest
from django.contrib.auth import get_user_model
from django.core import mail
from django.core.management import call_command

from accounts import events as of_accounts
from accounts import operations
from accounts.roles import RoleName
from api.views.events import EventFields
from delivery import events as of_deliveries
from delivery.outcome import Reason
from eventstore import blocks
from eventstore.events import NO_ACCOUNT
from outbox import requests, worker
from outbox.retry import Verdict
from tests.config.test_up import ROOT
from tests.outbox.workers import Alice
from tests.receivers import Answer, Receiver

DOCUMENT = (ROOT / "docs" / "events.md").read_text()
SUBJECTS = "event|delivery|account|token|destination|member|user"
TYPES = {*of_accounts.Type, *of_deliveries.Type}
PASSWORD = "correct horse battery staple"

_TYPE = re.compile(rf"^\| `((?:{SUBJECTS})\.[a-z_]+)` \| [^|]+ \| (.*?) ?\|$", re.MULTILINE)
_MEMBER = re.compile(r"(?:`([a-z_]+)`|\*(an attempt)\*)(\??)")


def members(text: str) -> dict[str, bool]:
    """What a cell names, and whether it is always there."""
    found: dict[str, bool] = {}
    for name, group, optional in _MEMBER.findall(text):
        names = AN_ATTEMPT if group else [name]
        found |= {one: not optional or found.get(one, False) for one in names}
    return found


def documented() -> Iterator[tuple[str, dict[str, bool]]]:
    for section in DOCUMENT.split("\n### ")[1:]:
        each = re.search(r"Each has (.*?)\.$", section, re.MULTILINE)
        common = members(each[1]) if each else {}
        for name, cell in _TYPE.findall(section):
            yield name, common | members(cell)


AN_ATTEMPT = re.findall(r"`([a-z_]+)`", re.search(r"\*An attempt\* stands for (.*?)\.", DOCUMENT)[1])
DATA = dict(documented())
FORMS = dict(re.findall(r"^\| `([a-z_]+)` \| ([^|`]+) \| [^|]+\|$", DOCUMENT, re.MULTILINE))


def is_list_of(item):
    return lambda value: isinstance(value, list) and all(map(item, value))


def is_uuid(value: object) -> bool:
    return isinstance(value, str) and str(UUID(value)) == value


def is_time(value: object) -> bool:
    return bool(re.fullmatch(r"\S+\.\d{6}Z", value)) and datetime.fromisoformat(value).tzinfo is not None


HAS_FORM = {
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: type(value) is int,
    "string": lambda value: isinstance(value, str),
    "integer or null": lambda value: value is None or type(value) is int,
    "string or null": lambda value: value is None or isinstance(value, str),
    "list of strings": is_list_of(lambda item: isinstance(item, str)),
    "pairs of UUIDs": is_list_of(lambda item: len(item) == 2 and all(map(is_uuid, item))),
    "time": is_time,
    "UUID": is_uuid,
}


# --- the names ----------------------------------------------------------------------------------------------


def test_every_type_stands_in_one_table() -> None:
    named = [name for name, _ in documented()]
    assert sorted(named) == sorted(TYPES)


def test_every_member_is_explained_once() -> None:
    assert FORMS.keys() == {member for data in DATA.values() for member in data}
    assert set(FORMS.values()) <= HAS_FORM.keys()


def test_every_reason_is_explained() -> None:
    table = DOCUMENT.partition("| `reason` | of |")[2].partition("\n## ")[0]
    assert set(Reason) <= set(re.findall(r"`([a-z_]+)`", table))


def test_sql_writes_the_types_that_delivery_names() -> None:
    literal = re.compile(rf"'((?:{SUBJECTS})\.[a-z_]+)'")
    files = {path: path.read_text() for path in ROOT.glob("*/sql/*.sql")}
    assert {name for text in files.values() for name in literal.findall(text)} <= TYPES
    written = {
        name for text in files.values() if "PERFORM pusher.append(" in text for name in literal.findall(text)
    }
    settled = {f"delivery.{verdict}" for verdict in Verdict if verdict is not Verdict.RETRY}
    assert written | settled == set(of_deliveries.Type)


def test_python_writes_only_types_of_the_lists() -> None:
    """`record` takes a Type; whoever appended past it would have to build a NewEvent."""
    rooms = ("accounts", "delivery", "outbox", "api", "demo", "config")
    builders = {
        str(path.relative_to(ROOT))
        for room in rooms
        for path in ROOT.glob(f"{room}/**/*.py")
        if "NewEvent(" in path.read_text()
    }
    assert builders == {"accounts/events.py"}


def test_the_contract_names_what_an_account_can_have() -> None:
    words = EventFields().fields["type"].help_text
    named = set(re.findall(r"`([a-z_]+\.[a-z_]+)`", words))
    assert named == {name for name in TYPES if not name.startswith("user.")}


# --- what is recorded ---------------------------------------------------------------------------------------


class Story:
    """Everything that can happen, at least once in each of its forms."""

    def __init__(self, database, receiver: Receiver) -> None:
        self.sql = database.connect()
        self.receiver = receiver
        self.alice = Alice()
        self.user = self.alice.user
        self.account = {"actor": self.user, "account_id": self.alice.account_id}

    def tell(self) -> None:
        self.deliveries()
        self.destinations()
        self.people()
        operations.update_account(**self.account, changes={"rate_limit_per_second": 7})
        operations.update_account(**self.account, changes={"name": "Another"})
        operations.rotate_token(**self.account)
        operations.delete_account(**self.account)
        blocks.seal_all()

    def destination(self, destination_id: UUID) -> dict:
        return {**self.account, "destination_id": destination_id}

    def drain(self) -> None:
        """Until nothing waits, however long the schedules are."""
        for _ in range(20):
            worker.drain(slot=0, seconds=0.4, hand_over=lambda: None)
            if not self.sql.execute("UPDATE outbox SET due_at = clock_timestamp()").rowcount:
                return
        raise AssertionError("deliveries still wait")

    def deliveries(self) -> None:
        self.receiver.on("/never", Answer(500))
        self.ok, _, lapsed, gone = (
            self.alice.sends_to(self.receiver.url(path), schedule=schedule)
            for path, schedule in (("/ok", ()), ("/never", (1,)), ("/lapsed", ()), ("/gone", ()))
        )
        self.alice.posts("order-1", body=b'{"total": 1.10}')
        self.sql.execute(
            "UPDATE outbox SET attempt = 1, fence = 1, due_at = clock_timestamp() - interval '1 second'"
            " WHERE destination_id = %s",
            [lapsed],
        )
        operations.delete_destination(**self.destination(gone))
        self.drain()
        (exhausted,) = self.sql.execute(
            "SELECT stream_id FROM event WHERE type = 'delivery.exhausted' AND data ? 'attempt'"
        ).fetchone()
        requests.redeliver(**self.account, delivery_id=exhausted)
        requests.send_sample(**self.destination(self.ok))

    def destinations(self) -> None:
        here = self.destination(self.ok)
        operations.update_destination(**here, changes={"timeout_seconds": 2})
        operations.pause_destination(**here)
        operations.resume_destination(**here)
        operations.rotate_signing_secret(**here)
        operations.deactivate_destination(destination_id=self.ok, reason="gone")

    def people(self) -> None:
        token = operations.log_in(email=self.user.email, password=PASSWORD).access_token
        operations.log_out(access_token=token)
        operations.change_password(
            actor=self.user, current_password=PASSWORD, new_password=f"{PASSWORD} again"
        )
        bob = operations.add_member(**self.account, email="bob@shop.example.org", role=RoleName.NORMAL_USER)
        (invitation,) = re.findall(r"cli_\w+", mail.outbox[-1].body)
        operations.accept_invitation(token=invitation, password=PASSWORD)
        ids = {**self.account, "member_id": bob.pk}
        operations.update_member(**ids, role=RoleName.ADMIN)
        operations.remove_member(**ids)
        operations.deactivate_user(email=bob.user.email)
        operations.activate_user(email=bob.user.email)
        shell = get_user_model().objects.get(pk=bob.user_id)
        shell.set_password(f"{PASSWORD} by a shell")
        shell.save()

    def recorded(self) -> dict[str, list[dict]]:
        found = defaultdict(list)
        for kind, data in self.sql.execute("SELECT type, data FROM event ORDER BY seq").fetchall():
            found[kind].append(data)
        return found


@pytest.fixture
def story(database, settings) -> Iterator[Story]:
    settings.DESTINATION_ALLOW = ["127.0.0.0/8"]
    with Receiver() as receiver:
        told = Story(database, receiver)
        told.tell()
        yield told


def test_what_is_recorded_has_the_members_that_the_tables_name(story, capsys) -> None:
    recorded = story.recorded()
    assert recorded.keys() == TYPES
    seen = {
        kind: {name: all(name in data for data in datas) for name in set().union(*datas)}
        for kind, datas in recorded.items()
    }
    assert seen == DATA
    for kind, datas in recorded.items():
        for name, value in ((name, value) for data in datas for name, value in data.items()):
            assert HAS_FORM[FORMS[name]](value), (kind, name, value)
    # And what the document has an auditor do, done.
    check_by_hand(story, exported(story.alice.account_id, capsys), exported(NO_ACCOUNT, capsys))


def exported(account_id: UUID, capsys) -> tuple[str, list[str]]:
    call_command("export", account=str(account_id))
    return str(account_id), capsys.readouterr().out.splitlines()


def check_by_hand(story: Story, *exports: tuple[str, list[str]]) -> None:
    ours: dict = {}
    exec(compile(block("python"), "events.md", "exec"), ours)  # noqa: S102 - the document's own words
    ask_positions, ask_blocks, ask_payloads = filter(None, map(str.strip, block("sql").split(";")))

    positions = story.sql.execute(ask_positions).fetchall()
    for account_id, lines in exports:
        kept = [leaf for _, _, account, leaf in positions if str(account) == account_id]
        assert [ours["leaf"](line) for line in lines] == kept
    assert sum(len(lines) for _, lines in exports) == len(positions)

    previous = "0" * 64
    for number, hashed, line in story.sql.execute(ask_blocks).fetchall():
        root = ours["root"]([leaf for _, of_block, _, leaf in positions if of_block == number])
        assert f'"root":"{root}","previous":"{previous}"' in line
        assert ours["block_hash"](line) == hashed
        previous = hashed

    rows = story.sql.execute(ask_payloads.replace("ID", str(story.alice.account_id))).fetchall()
    assert rows
    for event_id, salt, body in rows:
        digest = ours["payload_digest"](bytes.fromhex(salt), bytes.fromhex(body))
        (line,) = [
            line for line in exports[0][1] if f'"stream_id":"{event_id}"' in line and "event.received" in line
        ]
        assert f'"payload_digest":"{digest}"' in line


def block(language: str) -> str:
    return re.search(rf"^```{language}\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)[1]


def test_the_links_of_the_document_lead_somewhere() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", DOCUMENT):
        assert (Path(ROOT / "docs") / link).exists(), link
