"""When is a delivery tried again? A pure function of the attempt's outcome, its number and the schedule.

The waits and the stop are tenacity's objects, asked for their answer; nobody sleeps: the answer becomes
`due_at`.
"""

import dataclasses
import enum
from collections.abc import Callable, Sequence

import tenacity

from delivery.outcome import Outcome, Reason

RETRY_AFTER_CAP_SECONDS = 86_400
REFUSALS_ALLOWED = 3  # an address that policy refuses is looked up twice more, then it is over


class Verdict(enum.StrEnum):
    """What becomes of the delivery."""

    SUCCEEDED = "succeeded"
    RETRY = "retry"
    EXHAUSTED = "exhausted"
    CANCELLED = "cancelled"


@dataclasses.dataclass(frozen=True, slots=True)
class Decision:
    verdict: Verdict
    delay_ms: int = 0
    deactivate: bool = False  # the destination said that it is gone for good


def attempts_allowed(schedule: Sequence[int]) -> int:
    """The first attempt, and one for each wait of the schedule."""
    return len(schedule) + 1


def decide(
    outcome: Outcome,
    *,
    attempt: int,
    schedule: Sequence[int],
    jitter: float,
    random: Callable[[], float],
    refusals: int = 0,
) -> Decision:
    """Judge attempt number `attempt` (from 1) of the current schedule (waits in seconds).

    `jitter` spreads each wait evenly over [wait * (1 - jitter), wait * (1 + jitter)]; `random` gives [0, 1).
    `refusals` is how many attempts in a row, before this one, the address guard refused.
    """
    if outcome.reason is Reason.DELIVERED:
        return Decision(Verdict.SUCCEEDED)
    if outcome.reason is Reason.GONE:
        return Decision(Verdict.EXHAUSTED, deactivate=True)
    if outcome.reason is Reason.INVALID_REQUEST:
        return Decision(Verdict.EXHAUSTED)
    if outcome.reason is Reason.BLOCKED and refusals + 1 >= REFUSALS_ALLOWED:
        return Decision(Verdict.EXHAUSTED)
    state = _state(attempt)
    if tenacity.stop_after_attempt(attempts_allowed(schedule))(state):
        return Decision(Verdict.EXHAUSTED)
    wait = tenacity.wait_chain(*map(tenacity.wait_fixed, schedule))(state)
    seconds = wait * (1 + jitter * (2 * random() - 1))
    if outcome.retry_after_seconds is not None:
        seconds = max(seconds, min(outcome.retry_after_seconds, RETRY_AFTER_CAP_SECONDS))
    return Decision(Verdict.RETRY, delay_ms=round(seconds * 1000))


def _state(attempt: int) -> tenacity.RetryCallState:
    """The state that tenacity hands to its own objects, here only for its attempt number."""
    state = tenacity.RetryCallState(retry_object=tenacity.Retrying(), fn=None, args=(), kwargs={})
    state.attempt_number = attempt
    return state
