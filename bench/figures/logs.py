"""What does a page of the log cost, over HTTP, when the log is small and when it is large?

The rows are written by one statement (bench.written), without payloads. Every request asks for something
else, one after the other on one kept connection; who asks is looked up each time, as always.
"""

import http.client
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from bench import ledger, written
from bench.deployment import HOST, Account, Deployment
from bench.processes import Watch
from bench.run import Figure, Run, Wrong

NAME = "logs"
MODES = {"standard", "long"}

SMALL = ("10k", 10_000)
LARGE = ("5M", 5_000_000)
REQUESTS = 100
WARM_UP = 20
FIRST_VERSION = 2  # 1 is what the migrations made, and empty
WHO_AM_I = "/api/v1/auth/me/"

type Question = Callable[[int], Mapping[str, Any]]  # a row's number -> what to ask about it


def measure(run: Run) -> None:
    with Deployment(run) as deployment:
        deployment.start_web()
        account = deployment.account(destinations=["http://127.0.0.1:8000/"])
        reader = Reader(deployment, account)
        floors: dict[str, tuple[float, str]] = {}
        who = reader.ask([WHO_AM_I] * (WARM_UP + REQUESTS))["p50"]
        for version, (size, count) in enumerate(sizes(run), start=FIRST_VERSION):
            run.say(f"  writing {count:,} log rows")
            with deployment.sql() as connection:
                written.log(connection, version=version, account=account.id, count=count)
                written.show(connection, version=version)
            for name, question in reader.questions(count).items():
                paths = reader.paths(question, count)
                with Watch(deployment) as watch:
                    took = reader.ask(paths)
                floor, floor_label = floors.get(name, (who, "the same caller's /auth/me/"))
                floors.setdefault(name, (took["p50"], "with 10k rows"))
                run.record(
                    Figure(
                        key=f"logs.{size}.{name.replace(' ', '_')}",
                        label=f"logs list, {size} rows: {name}",
                        value=took["p50"],
                        unit="ms",
                        floor=floor,
                        floor_label=floor_label,
                        percentiles=took,
                        cpu=watch.per_event(len(paths)),
                        memory=watch.memory,
                    )
                )


def sizes(run: Run) -> Sequence[tuple[str, int]]:
    return [SMALL, LARGE] if run.mode == "long" else [SMALL]


class Reader:
    """Somebody with one connection to the API, who reads one account's log."""

    def __init__(self, deployment: Deployment, account: Account) -> None:
        self.list = f"/api/v1/accounts/{account.id}/logs/"
        self.connection = http.client.HTTPConnection(HOST, deployment.port, timeout=60)
        with deployment.api() as api:
            self.headers = {"Authorization": api.headers["Authorization"]}

    def questions(self, count: int) -> dict[str, Question]:
        def at(row: float) -> str:
            return written.received_at(row, of=count).isoformat()

        return {
            "first page": lambda _: {},
            "later page": lambda row: {"cursor": self.cursor_at(at(row))},
            "failed": lambda row: {"status": "failed", "received_timestamp_before": at(row)},
            "destination": lambda row: {"destination_id": written.destination(row // 10 % 30)},
            "event": lambda row: {"event_id": f"order-{row}"},
            "time range": lambda row: {
                "received_timestamp_after": at(row),
                "received_timestamp_before": at(row + 100),
            },
            "search": lambda row: {"search": f"order-{row // 10}"},
        }

    def paths(self, question: Question, count: int) -> list[str]:
        """About rows from all over the log but its ends, the same in each run, and of our account."""
        rows = random.Random(count).sample(  # noqa: S311 - spreading, not secrecy
            range(count // 5 + 1, count - count // 50, 10), WARM_UP + REQUESTS
        )
        return [f"{self.list}?{urlencode(question(row))}" for row in rows]

    def cursor_at(self, moment: str) -> str:
        """Where a page goes on behind those that begin at a moment, as the list's own link has it."""
        page = found(self.get(f"{self.list}?{urlencode({'received_timestamp_before': moment})}"))
        return str(parse_qs(urlsplit(page["next"]).query)["cursor"][0])

    def ask(self, paths: Sequence[str]) -> dict[str, float]:
        """How long the answers took to be here as a whole, in ms, after some to warm up."""
        self.connection.close()  # who was silent for seconds is cut off: the first request connects anew
        took = []
        for path in paths:
            began = time.perf_counter()
            body = self.get(path)
            took.append((time.perf_counter() - began) * 1e3)
            found(body)
        return ledger.percentiles(sorted(took[WARM_UP:]))

    def get(self, path: str) -> bytes:
        self.connection.request("GET", path, headers=self.headers)
        answer = self.connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise Wrong(f"GET {path}: {answer.status} {body.decode(errors='replace')}")
        return body


def found(body: bytes) -> Any:
    """Raises Wrong for a list without rows: an empty page is quick everywhere."""
    page = json.loads(body)
    if page.get("results") == []:
        raise Wrong(f"a page that should have rows is empty: {page}")
    return page
