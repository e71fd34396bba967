"""What is told of the runs? A line as each ends, and REPORT.md of the newest run of each part."""

import collections
import datetime as dt
import json
import os
import platform
import subprocess
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench import pages
from tests.faults.deployment import DRAIN_WITHIN_SECONDS, LEASE_SECONDS
from tests.faults.trial import Result

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results"
REPORT = FOLDER / "REPORT.md"
FRONT = FOLDER.parent.parent / "README.md"
BEGIN, END = "<!-- faults: made by `make faults` and `make faults-long` -->\n", "<!-- end of faults -->\n"
COUNTS = (
    "seeds | events | acknowledged | lost | missing log rows | duplicates, each explained | drained in | |"
)
HEAD = f"| fault | runs | {COUNTS}"
LONG_HEAD = f"| kills | which | {COUNTS}"
RULE = "|---|---:|---|---:|---:|---:|---:|---|---:|---|"
LONG_RULE = "|---:|---|---|---:|---:|---:|---:|---|---:|---|"
ABOUT = f"""\
# What is kept when things fail

Made by `make faults` and `make faults-long`. What is tried is the real deployment (`manage.py up`: two
receiver processes, a Q2 cluster with two drains, PostgreSQL with durable commits), with a client that
reposts until it is answered, and a receiver in a process of its own. What was killed is started again by
the product alone. Leases last {LEASE_SECONDS:g} s here; what is due must drain within
{DRAIN_WITHIN_SECONDS:g} s of healing. After each fault (in the long part: after all kills of a
deployment) `manage.py check_invariants` holds ledger, sightings and store against each other; an
invariant that is violated makes the run fail. A duplicate is explained when the attempt before it is on
record as one that did not end well. `python -m tests.faults --only FAULT --seed SEED` tries one again.
"""
NOT_TRIED = """\
## What is not tried, and why

- A clock that is off in C code, too: the shifted worker is shifted in Python (`time.time`, Django's
  `timezone.now`), since libfaketime is no requirement. Decisions go by the database's clock and by
  CLOCK_BOOTTIME, which nobody but the kernel can shift.
- Loss of power: `kill -9` and an immediate stop leave the kernel's page cache as it was. That what is
  synced is on the disk is the disk's promise.
- A lost disk, a second machine, a standby that takes over: there is one machine.
"""


def tell(result: Result) -> None:
    found = result.judgement
    print(
        f"{'ok    ' if result.passed else 'FAILED'} {result.title}: {found.acknowledged} of {found.events}"
        f" events acknowledged, {found.lost} lost, {found.missing_logs} log rows missing,"
        f" duplicates: {_explained([result])}; drained in {result.drain_seconds:g} s,"
        f" all in {result.seconds:g} s",
        flush=True,
    )
    for note in result.notes:
        print(f"       {note}", flush=True)
    for wrong in result.wrong:
        print(f"       {wrong}", flush=True)
    if not result.passed:
        print(f"       seed {result.seed}", flush=True)


def write(part: str, results: list[Result], *, seed: int, seconds: float, add: bool = False) -> None:
    """Keep the results of this part (`add`: beside the earlier ones), and make the report of both."""
    RESULTS.mkdir(exist_ok=True)
    earlier = _read(part) if add else None
    if earlier:
        results = [*earlier["results"], *results]
        seconds += earlier["about"]["seconds"]
    kept = {"about": _about(seed, seconds), "results": [result.to_dict() for result in results]}
    (RESULTS / f"{part}.json").write_text(json.dumps(kept, indent=1) + "\n")
    REPORT.write_text(render())
    pages.put(FRONT, BEGIN, END, f"{_headline()}\n")


def _headline() -> str:
    return _bound([result for part in _parts().values() if part for result in part["results"]])[0]


def _parts() -> dict[str, dict[str, Any] | None]:
    return {name: _read(name) for name in ("once", "long")}


def render() -> str:
    parts = _parts()
    lines = [ABOUT]
    lines += _bound([result for part in parts.values() if part for result in part["results"]])
    if parts["once"]:
        lines += ["## Each fault", "", _said(parts["once"]), "", HEAD, RULE, *_rows(parts["once"]), ""]
    if parts["long"]:
        lines += ["## Many kills", "", _said(parts["long"]), "", LONG_HEAD, LONG_RULE]
        lines += [*_long_rows(parts["long"]), ""]
    return "\n".join([*lines, NOT_TRIED])


def _read(part: str) -> dict[str, Any] | None:
    file = RESULTS / f"{part}.json"
    if not file.exists():
        return None
    kept = json.loads(file.read_text())
    kept["results"] = [Result.from_dict(one) for one in kept["results"]]
    return kept


def _about(seed: int, seconds: float) -> dict[str, Any]:
    commit = _git("rev-parse", "--short", "HEAD") + ("*" if _git("status", "--porcelain", "-uno") else "")
    return {
        "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d"),
        "commit": commit,
        "seed": seed,
        "seconds": round(seconds),
        "versions": f"Python {platform.python_version()}, Django {version('django')}, "
        f"django-q2 {version('django-q2')}, granian {version('granian')}, PostgreSQL "
        f"{os.environ.get('EMBEDDED_POSTGRES') or 18}, {platform.system()} {platform.machine()}, "
        f"{os.cpu_count()} cores",
    }


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=FOLDER, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _said(part: dict[str, Any]) -> str:
    about = part["about"]
    star = " (`*`: with changes that are not committed)" if about["commit"].endswith("*") else ""
    return f"{about['date']}, commit {about['commit']}{star}, in {about['seconds']} s. {about['versions']}."


def _bound(results: list[Result]) -> list[str]:
    """The rule of three: with no failure in n independent trials the 95 % bound on its rate is 3/n."""
    verdicts = collections.defaultdict(list)
    for result in results:
        for number, verdict in result.invariants.items():
            verdicts[number].append(verdict)
    held = [number for number, found in verdicts.items() if all(one.startswith("ok") for one in found)]
    judged = [result for result in results if result.is_judged]
    number = sum(result.kills for result in judged)
    failed = [result for result in results if not result.passed]
    events = sum(result.judgement.acknowledged for result in judged)
    lost = sum(result.judgement.lost for result in judged)
    told = f"**{number} kills, {events:,} events acknowledged, {lost} lost.** "
    if unjudged := [result for result in results if not result.is_judged]:
        kills = sum(result.kills for result in unjudged)
        names = ", ".join(result.fault for result in unjudged)
        told += f"Not counted, since nobody could judge it: {names} ({kills} kills). "
    if failed:
        why = [
            f"- `{result.fault}`, seed {result.seed}: {result.wrong[0].splitlines()[0]}" for result in failed
        ]
        told += (
            f"{len(failed)} of {len(results)} runs failed: {', '.join(result.fault for result in failed)}."
        )
    elif number:
        told += (
            f"No run failed. With 0 losses in {number} kills, the 95 % bound on the chance that a kill loses"
            f" an acknowledged event is 3/{number} = {3 / number:.2%}."
        )
    if held:
        told += f" Checked each time, and held: {', '.join(held)}."
    return [told, "", *(["What failed:", "", *why, ""] if failed else [])]


def _rows(part: dict[str, Any]) -> Iterable[str]:
    by_fault = collections.defaultdict(list)
    for result in part["results"]:
        by_fault[result.title].append(result)
    for title, results in by_fault.items():
        yield _row(f"`{results[0].fault}`: {title} | {len(results)}", results)


def _long_rows(part: dict[str, Any]) -> Iterable[str]:
    for result in part["results"]:
        yield _row(f"{result.kills} | {'; '.join(result.notes)}", [result])


def _row(begin: str, results: list[Result]) -> str:
    found = [result.judgement for result in results]
    names = ("events", "acknowledged", "lost", "missing_logs")
    numbers = (sum(getattr(one, name) for one in found) for name in names)
    slowest = max(result.drain_seconds for result in results)
    seeds = ", ".join(dict.fromkeys(result.seed.partition(":")[0] for result in results))
    end = "ok" if all(result.passed for result in results) else "**failed**"
    if not all(result.is_judged for result in results):
        end += ", not judged"
    cells = [begin, seeds, *map(str, numbers), _explained(results), f"{slowest:.1f} s", end]
    return f"| {' | '.join(cells)} |"


def _explained(results: list[Result]) -> str:
    total: collections.Counter[str] = collections.Counter()
    for result in results:
        total.update(result.judgement.duplicates)
    return ", ".join(f"{number} {why}" for why, number in total.most_common()) or "0"
