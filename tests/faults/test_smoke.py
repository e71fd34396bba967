"""The quickest of the faults, on one deployment: nothing is lost, and every duplicate is explained."""

import shutil
import tempfile
from pathlib import Path

import pytest

from tests.faults.catalogue import FAULTS
from tests.faults.deployment import Deployment
from tests.faults.receiver import Control
from tests.faults.trial import Trial
from tests.settings import _in_memory

EVENTS = 150
BY_NAME = {fault.name: fault for fault in FAULTS}
SMOKE = ("receiver", "worker", "postgres-immediate", "zombie", "reset-accept")


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_nothing_is_lost_and_duplicates_are_explained(subtests) -> None:
    folder = Path(tempfile.mkdtemp(prefix="data-pusher-faults-", dir=_in_memory()))
    try:
        with (
            Deployment(folder, proxied=True) as deployment,
            Control(folder / "sightings.jsonl") as receiver,
        ):
            for name in SMOKE:
                with subtests.test(name):
                    result = Trial(BY_NAME[name], deployment, receiver, seed=1, events=EVENTS).run()
                    assert result.wrong == [], deployment.log[-3000:]
                    assert result.judgement.acknowledged == EVENTS
    finally:
        shutil.rmtree(folder)
