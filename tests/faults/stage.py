"""Where faults are tried: a fresh deployment and its receiver, and the evidence if it went wrong."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.deployment import Deployment
from tests.faults.receiver import Control
from tests.faults.trial import Result


@contextmanager
def stage(*, proxied: bool) -> Iterator[tuple[Deployment, Control, list[Result]]]:
    """Put the results into the list: when one of them is bad, the folder is kept."""
    folder = Path(tempfile.mkdtemp(prefix="data-pusher-faults-"))
    results: list[Result] = []
    ended_well = False
    try:
        with (
            Deployment(folder, proxied=proxied) as deployment,
            Control(folder / "sightings.jsonl") as receiver,
        ):
            yield deployment, receiver, results
        ended_well = all(result.passed for result in results)
    finally:
        if ended_well:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            print(f"evidence: {folder}", flush=True)
