"""Is everything that happens told in one aligned line, and summed up rightly?"""

import io
import re

import pytest
from rich.console import Console

from demo.feeder import Accepted, Event, Refused, Waiting
from demo.logbook import Log
from demo.receiver import Arrival
from demo.screen import Screen
from demo.signature import Verdict
from demo.story import Story

EVENT = Event("run-001", "pull_request_review_comment", b"{}" * 600)


@pytest.fixture
def paper() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def story(paper) -> Story:
    story = Story(Screen(Console(file=paper, highlight=False, markup=False, emoji=False, width=40)))
    story.posting(EVENT)
    return story


def arrival(
    method: str = "POST", attempt: int = 1, verdict: Verdict = Verdict.VALID, status: int = 204, **changed
):
    values = {"door": "post", "event_id": EVENT.event_id, "at": 0.0} | changed
    return Arrival(method=method, attempt=attempt, verdict=verdict, status=status, **values)


def log(number: int, status: str = "success", attempts: int = 1, event_id: str = EVENT.event_id) -> Log:
    return Log(f"d-{number}", event_id, "x", status, attempts)


def told(paper: io.StringIO) -> list[tuple[str, str]]:
    """What, and the detail; every line is the time and these columns."""
    line = re.compile(r"\d\d:\d\d:\d\d (.{10})(.{11}) (.{22}) (.*)")
    matches = [line.fullmatch(text) for text in paper.getvalue().splitlines()]
    assert all(matches)
    return [(match[1].strip(), match[4]) for match in matches]


def test_each_thing_that_happens_is_one_line_however_narrow_the_terminal(story, paper) -> None:
    story.fed(Waiting(EVENT, "429", 1.0))
    story.fed(Accepted(EVENT, 3, "2026-01-01T00:00:00Z"))
    story.arrived(arrival("PUT", status=503))
    story.arrived(arrival("PUT", attempt=2))
    story.arrived(arrival("GET", verdict=Verdict.WRONG, status=401))
    for number, attempts in ((1, 1), (2, 1), (3, 2)):
        story.logged(log(number, attempts=attempts))

    assert told(paper) == [
        ("waiting", "429: posting it again in 1 s"),
        ("accepted", "1,200 bytes, for 3 destinations"),
        ("refused", "PUT  try 1, signature valid, answered 503: to be retried"),
        ("retried", "PUT  try 2, signature valid"),
        ("failed", "GET  try 1, SIGNATURE WRONG"),
        ("logged", "3 of 3 success, 4 tries"),
    ]


def test_a_first_delivery_says_how_long_it_took(story, paper) -> None:
    story.posted[EVENT.event_id] = 10.0
    story.arrived(arrival(at=10.0125))

    assert told(paper) == [("delivered", "POST try 1, signature valid, 12 ms")]


def test_a_failed_delivery_is_told_by_itself(story, paper) -> None:
    story.fed(Accepted(EVENT, 2, ""))
    story.logged(log(1, "failed", 4))
    story.logged(log(2))

    assert told(paper)[1:] == [
        ("failed", "logged as failed after 4 tries"),
        ("logged", "1 of 2 success, 5 tries"),
    ]


def test_an_event_of_somebody_else_is_told_too_but_not_counted(story, paper) -> None:
    story.arrived(arrival(event_id="mine"))
    for number in range(3):
        story.logged(log(number, event_id="mine"))

    assert [what for what, _ in told(paper)] == ["delivered", "logged"]
    assert "yours" in paper.getvalue()
    assert story.summary().startswith("0 events accepted, 0 deliveries: 0 at the first try")


def test_it_is_complete_when_all_that_was_accepted_is_logged(story) -> None:
    assert story.is_complete()
    story.fed(Accepted(EVENT, 2, ""))
    story.logged(log(1))
    assert not story.is_complete()
    story.logged(log(2))
    assert story.is_complete()


def test_the_summary_counts(story) -> None:
    story.fed(Accepted(EVENT, 2, ""))
    story.arrived(arrival())
    story.arrived(arrival("PUT", status=503))
    story.arrived(arrival("PUT", attempt=2))
    story.fed(Refused(Event("run-002", "push", b"{}"), "400"))
    story.logged(log(1))
    story.logged(log(2))

    assert story.summary() == (
        "1 events accepted, 2 deliveries: 1 at the first try, 1 after being refused; "
        "2 logged as success, 0 failures."
    )


def test_hostile_text_stays_on_its_line(story, paper) -> None:
    story.arrived(arrival(event_id="x" * 128))

    assert told(paper)[0][0] == "delivered"
    assert "x" * 12 not in paper.getvalue()
