"""Is the committed OpenAPI document the one that this code makes, on any machine and at any time?"""

import os
import subprocess
import sys

import pytest
import yaml
from rest_framework.test import APIClient

from tests.api.documented import COMMITTED, text

ROOT = COMMITTED.parents[1]


def test_the_committed_document_is_what_the_code_says():
    assert COMMITTED.read_text() == text(), "the API has changed: run `make schema`, and commit what it wrote"


@pytest.mark.slow
def test_it_is_the_same_in_a_process_with_other_hashes_and_other_settings(tmp_path):
    written = tmp_path / "openapi.yaml"
    other = {
        "PYTHONHASHSEED": "7",
        "RATE_LIMIT_MAX": "77",
        "MAX_EVENT_BYTES": "777",
        "DATA_DIR": str(tmp_path),
        "DJANGO_SETTINGS_MODULE": "config.settings",
    }
    subprocess.run(
        [sys.executable, "manage.py", "spectacular", "--file", str(written)],
        cwd=ROOT,
        env={**os.environ, **other},
        check=True,
    )
    assert written.read_text() == COMMITTED.read_text()


@pytest.mark.django_db
@pytest.mark.parametrize("accept", ["application/vnd.oai.openapi", "application/vnd.oai.openapi+json"])
def test_it_is_what_is_served_to_everybody(accept):
    reply = APIClient().get("/api/schema/", headers={"Accept": accept})
    assert reply.status_code == 200
    assert yaml.safe_load(reply.content) == yaml.safe_load(COMMITTED.read_text())
