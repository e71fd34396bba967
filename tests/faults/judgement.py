"""Was anything lost, and is every duplicate explained? Ledger and sightings against what the store says.

`check_invariants` judges the whole store after each fault; this counts for the report, by its own SQL.
"""

import collections
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults import client
from tests.faults.deployment import Account, Deployment

DELIVERIES = """
    SELECT k.client_id, d.pair ->> 0 AS delivery, d.pair ->> 1 AS destination
      FROM event_key k
      JOIN event e ON e.account_id = k.account_id AND e.stream_id = k.event_id AND e.type = 'event.received'
     CROSS JOIN LATERAL jsonb_array_elements(e.data -> 'deliveries') AS d(pair)
     WHERE k.account_id = %s
"""
ATTEMPTS = """
    SELECT stream_id::text, (data ->> 'attempt')::int, type, data ->> 'reason' FROM event
     WHERE account_id = %s AND type LIKE 'delivery.%%' ORDER BY stream_id, version
"""
LOGS = """
    SELECT l.delivery_id::text, l.status FROM delivery_log l
      JOIN projection p ON p.name = 'delivery_log' AND p.active = l.version
     WHERE l.account_id = %s
"""
ENDS = {"delivery.succeeded", "delivery.exhausted", "delivery.cancelled"}
CALLED = {  # how a report calls what came before a duplicate
    "interrupted": "worker interrupted",
    "reset": "connection reset",
    "timeout": "no answer in time",
    "server_error": "receiver answered 5xx",
    "protocol": "protocol error",
}


@dataclass
class Judgement:
    """`wrong` is empty when all is well."""

    events: int = 0
    acknowledged: int = 0
    refused: int = 0
    unknown: int = 0
    reposts: int = 0
    deliveries: int = 0
    sightings: int = 0
    lost: int = 0
    missing_logs: int = 0
    ended: int = 0  # on record, without a success
    duplicates: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)


def judge(
    deployment: Deployment,
    account: Account,
    ledger: Path,
    sightings: Iterable[dict[str, Any]],
    *,
    may_end: bool = False,
    known_until: float | None = None,
) -> Judgement:
    """Once drained. `may_end`: deliveries may have ended on record without a success; `known_until`: the the
    store knows what was acknowledged until then (Unix seconds), and need not know the rest."""
    lines = client.read_ledger(ledger)
    paths = {one.path for one in account.destinations}
    seen = [one for one in sightings if one["destination"] in paths]
    deliveries = deployment.ask(DELIVERIES, account.id)
    logs = dict(deployment.ask(LOGS, account.id))
    attempts: dict[str, dict[int, str]] = collections.defaultdict(dict)
    ends: dict[str, str] = {}
    found = Judgement(deliveries=len(deliveries), sightings=len(seen))
    for delivery, number, kind, reason in deployment.ask(ATTEMPTS, account.id):
        if number is not None:
            attempts[delivery][number] = reason or ""
        if kind in ENDS:
            ends[delivery] = kind
    _count_answers(found, lines)
    known = [line for line in lines if known_until is None or (line["answered_at"] or 0) < known_until]
    accepted = client.acknowledged(known)
    by_event = collections.defaultdict(list)
    for event_id, delivery, _ in deliveries:
        by_event[event_id].append(delivery)
    _look_for_lost(found, accepted, by_event, ends, seen, may_end=may_end)
    wanted = [delivery for event_id in accepted for delivery in by_event[event_id]]
    _tell(found, "missing_logs", "have no log row", [one for one in wanted if one not in logs])
    _explain(found, [one for one in seen if one["delivery_id"] in attempts], attempts)
    if stranger := {one["delivery_id"] for one in seen} - set(attempts) if known_until is None else set():
        found.wrong.append(
            f"{len(stranger)} deliveries were seen that nobody recorded: {sorted(stranger)[:5]}"
        )
    return found


def _count_answers(found: Judgement, lines: list[dict[str, Any]]) -> None:
    last = {line["event_id"]: line["outcome"] for line in lines}
    found.events = len(last)
    found.acknowledged = len(client.acknowledged(lines))
    outcomes = collections.Counter(line["outcome"] for line in lines)
    found.refused = outcomes["refused"]
    found.unknown = outcomes["unknown"]
    found.reposts = len(lines) - len(last)


def _look_for_lost(
    found: Judgement,
    accepted: set[str],
    by_event: dict[str, list[str]],
    ends: dict[str, str],
    seen: list[dict[str, Any]],
    *,
    may_end: bool,
) -> None:
    taken = {one["delivery_id"] for one in seen if one["status"] == 200 and one["signed"]}
    lost = [f"event {event_id}: not stored" for event_id in sorted(accepted - set(by_event))]
    for event_id in sorted(accepted & set(by_event)):
        for delivery in by_event[event_id]:
            end = ends.get(delivery)
            if end == "delivery.succeeded" and delivery in taken:
                continue
            if end in ENDS - {"delivery.succeeded"}:
                found.ended += 1
                if may_end:
                    continue
            lost.append(
                f"event {event_id}, delivery {delivery}: {end or 'no end'}, seen: {delivery in taken}"
            )
    _tell(found, "lost", "were lost", lost)


def _explain(found: Judgement, seen: list[dict[str, Any]], attempts: dict[str, dict[int, str]]) -> None:
    """Every sighting but a delivery's last is there because that attempt did not end well, on record."""
    by_delivery = collections.defaultdict(list)
    for one in seen:
        by_delivery[one["delivery_id"]].append(one["attempt"])
    explained: collections.Counter[str] = collections.Counter()
    unexplained = []
    for delivery, numbers in by_delivery.items():
        *earlier, _ = sorted(numbers)
        if len(set(numbers)) < len(numbers):
            unexplained.append(f"{delivery}: an attempt was seen twice: {sorted(numbers)}")
        for number in earlier:
            reason = attempts[delivery].get(number)
            if reason in {None, "", "delivered"}:
                unexplained.append(f"{delivery}: attempt {number} is on record as {reason}, yet seen again")
            else:
                explained[CALLED.get(reason, reason)] += 1
    if unexplained:
        explained["UNEXPLAINED"] = len(unexplained)
    found.duplicates = dict(explained)
    found.wrong += unexplained[:10]


def _tell(found: Judgement, name: str, what: str, problems: list[str]) -> None:
    setattr(found, name, len(problems))
    if problems:
        found.wrong.append(f"{len(problems)} {what}: {json.dumps(problems[:5])}")
