"""What happened to each event so far, and how is it told? Everything that the demo's parts see ends here."""

import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from demo.feeder import Accepted, Event, Refused, Waiting
from demo.logbook import Log
from demo.receiver import Arrival
from demo.screen import Screen
from demo.signature import Verdict

YOURS = "yours"
USUAL_DELIVERIES = 3


@dataclass
class Story:
    """`counts` by what happened to events of ours; `kinds` and `posted` by the client's event id."""

    screen: Screen
    counts: Counter[str] = field(default_factory=Counter)
    kinds: dict[str, str] = field(default_factory=dict)
    posted: dict[str, float] = field(default_factory=dict)
    expected: dict[str, int] = field(default_factory=dict)
    ended: defaultdict[str, list[Log]] = field(default_factory=lambda: defaultdict(list))

    def posting(self, event: Event) -> None:
        self.kinds[event.event_id] = event.kind
        self.posted[event.event_id] = time.monotonic()

    def fed(self, happened: Accepted | Waiting | Refused) -> None:
        event = happened.event
        match happened:
            case Accepted(deliveries=deliveries):
                self.expected[event.event_id] = deliveries
                self._tell(
                    "accepted", event.event_id, f"{len(event.body):,} bytes, for {deliveries} destinations"
                )
            case Waiting(reason=reason, seconds=seconds):
                self._tell("waiting", event.event_id, f"{reason}: posting it again in {seconds:g} s")
            case Refused(reason=reason):
                self._tell("failed", event.event_id, f"not accepted: {reason}")

    def arrived(self, arrival: Arrival) -> None:
        how = f"{arrival.method:<4} try {arrival.attempt}, {arrival.verdict}"
        if arrival.verdict is not Verdict.VALID:
            self._tell("failed", arrival.event_id, how)
        elif arrival.status >= 400:
            self._tell("refused", arrival.event_id, f"{how}, answered {arrival.status}: to be retried")
        elif arrival.attempt > 1:
            self._tell("retried", arrival.event_id, how)
        else:
            self._tell("delivered", arrival.event_id, how + self._lapse(arrival))

    def logged(self, log: Log) -> None:
        logs = self.ended[log.event_id]
        logs.append(log)
        if log.status != "success":
            self._tell("failed", log.event_id, f"logged as {log.status} after {log.attempts} tries")
        elif len(logs) == self.expected.get(log.event_id, USUAL_DELIVERIES):
            good = sum(one.status == "success" for one in logs)
            tries = sum(one.attempts for one in logs)
            self._tell("logged", log.event_id, f"{good} of {len(logs)} success, {tries} tries")

    def is_complete(self) -> bool:
        """Every event that was accepted here has the logs of all its deliveries."""
        return all(len(self.ended[event_id]) >= count for event_id, count in self.expected.items())

    def summary(self) -> str:
        logs = [log for event_id in self.expected for log in self.ended[event_id]]
        good = sum(log.status == "success" for log in logs)
        return (
            f"{len(self.expected)} events accepted, {sum(self.expected.values())} deliveries: "
            f"{self.counts['delivered']} at the first try, {self.counts['retried']} after being refused; "
            f"{good} logged as success, {self.counts['failed']} failures."
        )

    def _lapse(self, arrival: Arrival) -> str:
        posted = self.posted.get(arrival.event_id)
        return f", {1000 * (arrival.at - posted):.0f} ms" if posted else ""

    def _tell(self, what: str, event_id: str, detail: str) -> None:
        if event_id in self.kinds:
            self.counts[what] += 1
        self.screen.event(what, event_id, self.kinds.get(event_id, YOURS), detail)
