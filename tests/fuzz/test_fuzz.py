"""Does the API answer everything that its document allows, and everything that it doesn't, as it says?

Schemathesis reads the committed document and makes requests of it, right ones and wrong ones, against a real
server on a real database: `FUZZ_SECONDS` of them (`make fuzz`), else a bounded and repeatable lot.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api import servers
from tests.api.documented import COMMITTED
from tests.fuzz import staging
from tests.fuzz.stage import Stage

SECONDS = int(os.environ.get("FUZZ_SECONDS", "0"))
CONFIG = Path(__file__).with_name("schemathesis.toml")
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
SERVER = {
    "DJANGO_SETTINGS_MODULE": "tests.settings",  # quick hashes, no throttles
    "DATABASE_POOL": "1",
    "DESTINATION_ALLOW": staging.LOOPBACK,
    "DESTINATIONS_PER_ACCOUNT": "10000",
    "RATE_LIMIT_MAX": "1000000",
    "LOG_LEVEL": "WARNING",
}


@pytest.fixture
def site(database, tmp_path) -> Iterator[tuple[Stage, Path]]:
    """A server on a free port with somebody's things in it, and its log."""
    port = servers.free_port()
    log = tmp_path / "server.log"
    with log.open("w") as output:
        argv = servers.granian("config.asgi:application", port)
        with servers.running(argv, port, environment=database.environment | SERVER, output=output):
            yield staging.prepare(f"http://127.0.0.1:{port}"), log


@pytest.mark.slow
@pytest.mark.timeout(120 + 2 * SECONDS)
def test_the_api_is_as_its_document_says(site, tmp_path):
    prepared, log = site
    done = fuzz(prepared, tmp_path, *_extent())
    errors = log.read_text()
    assert done.returncode == 0, f"{done.stdout}\n{errors[-5000:]}"
    assert '"level":"error"' not in errors, errors[-5000:]


def _extent() -> list[str]:
    if SECONDS:
        return ["--max-time", str(SECONDS), "--generation-database", "none"]
    return ["--max-examples", "5", "--generation-deterministic"]


def fuzz(prepared: Stage, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    place = folder / "stage.json"
    prepared.write(place)
    environment = {
        "FUZZ_STAGE": str(place),
        "PYTHONPATH": str(COMMITTED.parents[1]),
    }
    argv = [
        *(str(SCHEMATHESIS), "--config-file", str(CONFIG), "run", str(COMMITTED), "--url", prepared.url),
        *("--checks", "all", "--continue-on-failure", *options),
    ]
    return subprocess.run(
        argv, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
