"""The schedule is a law: how long until the next attempt, and when is it over?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery.outcome import Outcome, Reason
from outbox.retry import RETRY_AFTER_CAP_SECONDS, Verdict, attempts_allowed, decide

SCHEDULE = (5, 30, 120)
FAILED = Outcome(
    reason=Reason.SERVER_ERROR, status=500, duration_us=1, address=None, retry_after_seconds=None, detail=""
)
FAILURES = [
    reason for reason in Reason if reason not in {Reason.DELIVERED, Reason.GONE, Reason.INVALID_REQUEST}
]


def judge(outcome=FAILED, *, attempt=1, schedule=SCHEDULE, jitter=0.0, random=0.5, refusals=0):
    return decide(
        outcome, attempt=attempt, schedule=schedule, jitter=jitter, random=lambda: random, refusals=refusals
    )


def because(reason, **changes):
    return FAILED._replace(reason=reason, **changes)


def test_the_waits_follow_the_schedule_and_end_with_it():
    assert [judge(attempt=attempt).delay_ms for attempt in (1, 2, 3)] == [5_000, 30_000, 120_000]
    assert judge(attempt=4).verdict is Verdict.EXHAUSTED
    assert attempts_allowed(SCHEDULE) == 4


def test_without_a_schedule_there_is_one_attempt():
    assert judge(schedule=()).verdict is Verdict.EXHAUSTED


@pytest.mark.parametrize(
    ("outcome", "verdict", "deactivate"),
    [
        (because(Reason.DELIVERED), Verdict.SUCCEEDED, False),
        (because(Reason.GONE), Verdict.EXHAUSTED, True),  # 410: never again, to nobody
        (because(Reason.INVALID_REQUEST), Verdict.EXHAUSTED, False),  # it would be as invalid tomorrow
        (because(Reason.TIMEOUT), Verdict.RETRY, False),
        (because(Reason.REDIRECT), Verdict.RETRY, False),
        (because(Reason.BLOCKED), Verdict.RETRY, False),  # the name may be mended
    ],
)
def test_each_outcome_has_its_verdict(outcome, verdict, deactivate):
    decision = judge(outcome)
    assert (decision.verdict, decision.deactivate) == (verdict, deactivate)


def test_a_refused_address_is_tried_twice_more_and_no_oftener():
    assert [judge(because(Reason.BLOCKED), attempt=2, refusals=n).verdict for n in range(3)] == [
        Verdict.RETRY,
        Verdict.RETRY,
        Verdict.EXHAUSTED,
    ]


@pytest.mark.parametrize(
    ("retry_after", "delay_ms"),
    [
        (1.0, 5_000),  # never earlier than the schedule
        (60.0, 60_000),
        (10 * RETRY_AFTER_CAP_SECONDS, RETRY_AFTER_CAP_SECONDS * 1000),  # a year is not believed
    ],
)
def test_retry_after_is_honoured_up_to_a_day(retry_after, delay_ms):
    assert judge(because(Reason.THROTTLED, retry_after_seconds=retry_after)).delay_ms == delay_ms


@given(
    reason=st.sampled_from(FAILURES),
    schedule=st.lists(st.integers(1, 86_400), max_size=20),
    attempt=st.integers(1, 30),
    jitter=st.floats(0, 0.5),
    random=st.floats(0, 1, exclude_max=True),
)
def test_every_failure_is_either_due_within_its_jitter_or_over(reason, schedule, attempt, jitter, random):
    decision = judge(because(reason), attempt=attempt, schedule=schedule, jitter=jitter, random=random)
    if attempt > len(schedule):
        assert decision.verdict is Verdict.EXHAUSTED
    else:
        wait = schedule[attempt - 1] * 1000
        assert decision.verdict is Verdict.RETRY
        assert wait * (1 - jitter) - 1 <= decision.delay_ms <= wait * (1 + jitter) + 1
