"""Does the API answer everything that its document allows, and everything that it doesn't, as it says?

Schemathesis reads the committed document and makes requests of it, right ones and wrong ones, against a real
server on a real database: `FUZZ_SECONDS` of them (`make fuzz`), else a bounded and repeatable lot.
"""

import copy
import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api import servers
from tests.api.documented import COMMITTED, document, operations
from tests.fuzz import staging
from tests.fuzz.stage import Stage

SECONDS = int(os.environ.get("FUZZ_SECONDS", "0"))
STATUSES = "statuses"
CONFIG = Path(__file__).with_name("schemathesis.toml")
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
SERVER = {
    "DJANGO_SETTINGS_MODULE": "tests.settings",  # quick hashes, no throttles
    "DATABASE_POOL": "1",
    "DESTINATION_ALLOW": staging.LOOPBACK,
    "DESTINATIONS_PER_ACCOUNT": "10000",
    "RATE_LIMIT_MAX": "1000000",
    "METRICS_TOKEN": staging.METRICS_TOKEN,
    "TRUSTED_PROXIES": "1",  # the hooks say where a request comes from
    "EMAIL_BACKEND": "django.core.mail.backends.dummy.EmailBackend",
    "LOG_LEVEL": "WARNING",
}


@pytest.fixture
def site(database, tmp_path) -> Iterator[tuple[Stage, Path]]:
    """A server on a free port with somebody's things in it, and its log."""
    log = tmp_path / "server.log"
    with servers.site(database.environment | SERVER, log) as url:
        yield staging.prepare(url), log


@pytest.mark.slow
@pytest.mark.timeout(120 + 2 * SECONDS)
def test_the_api_is_as_its_document_says(site, tmp_path):
    prepared, log = site
    done = fuzz(prepared, COMMITTED, tmp_path, *_extent())
    sys.stdout.write(done.stdout)  # `make fuzz` shows it
    errors = log.read_text()
    assert done.returncode == 0, f"{done.stdout}\n{errors[-5000:]}"
    assert '"level":"error"' not in errors, errors[-5000:]
    seen = _statuses(tmp_path)
    for _, _, operation in operations(document()):
        name = operation["operationId"]
        assert any(200 <= status < 300 for status in seen[name]), f"{name} was never done: {seen[name]}"


@pytest.mark.slow
def test_a_document_that_is_wrong_is_noticed(site, tmp_path):
    prepared, _ = site
    wrong = copy.deepcopy(document())
    wrong["components"]["schemas"]["Account"]["properties"]["name"]["type"] = "integer"
    del wrong["paths"]["/api/v1/accounts/"]["get"]["responses"]["400"]
    place = tmp_path / "wrong.json"
    place.write_text(json.dumps(wrong))
    only = ("--include-operation-id", "list_accounts", "--phases", "examples,coverage")
    done = fuzz(prepared, place, tmp_path, *only)
    assert done.returncode == 1
    assert "Undocumented status code" in done.stdout
    assert "is not of type" in done.stdout


def _extent() -> list[str]:
    if SECONDS:
        return ["--max-time", str(SECONDS), "--generation-database", "none"]
    return ["--max-examples", "3", "--generation-deterministic"]


def _statuses(folder: Path) -> dict[str, set[int]]:
    """What each operation was answered with."""
    seen: dict[str, set[int]] = defaultdict(set)
    for line in (folder / STATUSES).read_text().splitlines():
        name, status = line.split()
        seen[name].add(int(status))
    return seen


def fuzz(prepared: Stage, against: Path, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    place = folder / "stage.json"
    prepared.write(place)
    environment = {
        "FUZZ_STAGE": str(place),
        "FUZZ_STATUSES": str(folder / STATUSES),
        "PYTHONPATH": str(COMMITTED.parents[1]),
    }
    argv = [
        *(str(SCHEMATHESIS), "--config-file", str(CONFIG), "run", str(against), "--url", prepared.url),
        *("--checks", "all", "--continue-on-failure", *options),
    ]
    return subprocess.run(
        argv, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
