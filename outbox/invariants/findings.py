"""What was found about an invariant: it holds, it is violated (and where), or why it was not checked."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

NAMED = 10

TITLES = {
    "I1": "what was acknowledged is in the store, byte for byte",
    "I2": "one id, one event",
    "I3": "a refusal leaves nothing",
    "I4": "one delivery per event and active destination; attempts 1..n, each with an outcome",
    "I5": "succeeded means: seen by the receiver, with a valid signature",
    "I6": "no attempt is seen twice within an epoch, none without a record",
    "I7": "nothing is seen that was not accepted, or that must not be sent any more",
    "I8": "the live logs are what the history tells",
    "I9": "the sealed history is whole and in order",
    "I10": "what is due drains",
    "I11": "no rolling second has more admitted events than the limit",
    "I12": "healthy destinations stay quick while others misbehave",
    "I13": "no secret stands where it must not",
    "I14": "no 5xx without a fault that explains it",
}
NUMBERS = tuple(TITLES)
_WITHOUT = {
    "I3": "needs --ledger",
    "I5": "needs --sightings",
    "I6": "needs --sightings",
    "I7": "needs --sightings",
    "I12": "a matter of speed under load, which no store tells",
    "I13": "needs --canary",
    "I14": "needs --ledger",
}


class State(StrEnum):
    OK = "ok"
    VIOLATED = "violated"
    NOT_CHECKED = "not checked"
    FAILED = "could not be checked"


@dataclass(slots=True)
class Finding:
    """`checked`: how many of what were looked at; `error`: why the look was not finished."""

    number: str
    checked: dict[str, int] = field(default_factory=dict)
    violated: int = 0
    examples: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    error: str = ""

    @property
    def title(self) -> str:
        return TITLES[self.number]

    @property
    def state(self) -> State:
        if self.violated:
            return State.VIOLATED
        if self.error:
            return State.FAILED
        return State.OK if self.checked else State.NOT_CHECKED

    def add(self, what: str | None, checked: int, violated: int, examples: Sequence[str]) -> None:
        if what is not None:
            self.checked[what] = self.checked.get(what, 0) + checked
        self.violated += violated
        self.examples += examples[: NAMED - len(self.examples)]

    def said(self) -> str:
        """What stands behind the state: numbers and reasons."""
        counts = [f"{number} {what}" for what, number in self.checked.items()]
        reasons = [_WITHOUT.get(self.number, "")] if self.state is State.NOT_CHECKED else []
        return ", ".join(part for part in (*counts, *self.notes, *reasons, self.error) if part)

    def as_json(self) -> dict[str, Any]:
        return {
            "invariant": self.number,
            "title": self.title,
            "state": self.state.value,
            "checked": self.checked,
            "violated": self.violated,
            "examples": self.examples,
            "said": self.said(),
        }
