"""The judges notice what they are there for: a loss, a missing log, a duplicate without a reason."""

import dataclasses
import json
import random
from datetime import UTC, datetime
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from tests.faults import judgement, report
from tests.faults.deployment import Account, Destination
from tests.faults.receiver import BlackBox
from tests.faults.trial import Result

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SUCCEEDED = ("d1", 1, "delivery.succeeded", "delivered")


class Store:
    """What the database answers: one event with one delivery, and what became of it."""

    def __init__(self, *attempts: tuple[str, int, str, str], events: int = 1, logs: int = 1) -> None:
        self._answers = {
            judgement.DELIVERIES: [("order-1", "d1", "here")][:events],
            judgement.ATTEMPTS: list(attempts),
            judgement.LOGS: [("d1", "success")][:logs],
        }

    def ask(self, statement: str, *_: object) -> list[tuple[object, ...]]:
        return self._answers[statement]


def seen(attempt: int = 1, **other: object) -> dict[str, object]:
    return {
        "destination": "/here",
        "delivery_id": "d1",
        "attempt": attempt,
        "status": 200,
        "signed": True,
    } | other


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    file = tmp_path / "ledger.jsonl"
    line = {"event_id": "order-1", "outcome": "acknowledged", "answered_at": 1.0}
    file.write_text(json.dumps(line) + "\n")
    return file


def judge(store: Store, ledger: Path, *sightings: dict[str, object]) -> judgement.Judgement:
    account = Account("a", "token", [Destination("here", "/here", [SECRET])])
    return judgement.judge(store, account, ledger, sightings)


def test_what_was_seen_once_is_well(ledger: Path) -> None:
    found = judge(Store(SUCCEEDED), ledger, seen())

    assert (found.wrong, found.acknowledged, found.lost, found.duplicates) == ([], 1, 0, {})


@pytest.mark.parametrize(
    ("store", "sightings"),
    [
        (Store(events=0, logs=0), []),  # acknowledged, and not stored
        (Store(), []),  # stored, and never tried
        (Store(SUCCEEDED), []),  # a success that nobody saw
        (Store(SUCCEEDED), [seen(signed=False)]),  # nor with a wrong signature
        (Store(("d1", 1, "delivery.exhausted", "timeout")), [seen(status=None)]),  # given up
    ],
)
def test_a_loss_is_noticed(ledger: Path, store: Store, sightings: list[dict[str, object]]) -> None:
    found = judge(store, ledger, *sightings)

    assert found.lost == 1
    assert found.wrong


def test_a_missing_log_is_noticed(ledger: Path) -> None:
    found = judge(Store(SUCCEEDED, logs=0), ledger, seen())

    assert found.missing_logs == 1
    assert found.wrong


def test_a_duplicate_after_an_interruption_is_explained(ledger: Path) -> None:
    store = Store(
        ("d1", 1, "delivery.interrupted", "interrupted"), ("d1", 2, "delivery.succeeded", "delivered")
    )

    found = judge(store, ledger, seen(1, status=None), seen(2))

    assert (found.wrong, found.duplicates) == ([], {"worker interrupted": 1})


@pytest.mark.parametrize(
    ("attempts", "sightings"),
    [
        ([SUCCEEDED], [seen(1), seen(1)]),  # one attempt, seen twice
        ([SUCCEEDED, ("d1", 2, "delivery.succeeded", "delivered")], [seen(1), seen(2)]),  # after a success
        ([("d1", 2, "delivery.succeeded", "delivered")], [seen(1), seen(2)]),  # an attempt without a record
    ],
)
def test_a_duplicate_without_a_reason_is_noticed(ledger: Path, attempts: list, sightings: list) -> None:
    found = judge(Store(*attempts), ledger, *sightings)

    assert "UNEXPLAINED" in found.duplicates
    assert found.wrong


@pytest.mark.parametrize("right", [True, False])
def test_the_black_box_checks_signatures_as_the_standard_says(right: bool) -> None:
    box = BlackBox(out=None, random=random.Random(1))
    box.obey({"secrets": {"/here": [SECRET]}})
    now = datetime.now(UTC)
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(SECRET).sign("msg_1", now, '{"n": 1}'),
    }

    assert box.is_signed("/here", headers, b'{"n": 1}' if right else b'{"n": 2}') is right
    assert box.is_signed("/elsewhere", headers, b'{"n": 1}') is None


def test_a_bound_is_claimed_only_when_nothing_failed() -> None:
    well = Result("worker", "kill -9", "1:worker", kills=300, invariants={"I1": "ok"})
    ill = dataclasses.replace(well, wrong=["1 were lost"])

    assert "3/300 = 1.00%" in report._bound([well])[0]
    assert "3/" not in report._bound([well, ill])[0]


def test_what_nobody_could_judge_is_not_counted() -> None:
    well = Result("worker", "kill -9", "1:worker", kills=240, invariants={"I1": "ok"})
    left = Result("worker", "kill -9", "2:worker", kills=60, wrong=["waited 60 s in vain"])

    told = report._bound([well, left])[0]
    assert told.startswith("**240 kills")
    assert "nobody could judge it: worker (60 kills)" in told
    assert "not judged" in report._row("60", [left])
