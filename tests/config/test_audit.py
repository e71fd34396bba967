"""What does the audit of our dependencies say, and when does it admit that it can't tell?"""

import json

import pytest

from requirements import audit

SAFE = {"name": "a", "version": "1", "vulns": []}
VULNERABLE = {"name": "b", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3"]}]}
UNKNOWN = {"name": "c", "skip_reason": "Dependency not found"}


@pytest.mark.parametrize(
    ("report", "status"),
    [
        (json.dumps({"dependencies": [SAFE]}), 0),
        (json.dumps({"dependencies": [SAFE, VULNERABLE]}), 1),
        (json.dumps({"dependencies": [VULNERABLE, UNKNOWN]}), 1),
        (json.dumps({"dependencies": [SAFE, UNKNOWN]}), 2),
        (json.dumps({"dependencies": [UNKNOWN]}), 2),
        (json.dumps({"dependencies": []}), 2),
        ("", 2),  # it could not even ask
        ("Traceback", 2),
        ("[]", 2),
    ],
)
def test_only_what_was_looked_up_is_called_safe(report, status):
    assert audit.read(report).status == status


def test_a_vulnerability_is_named_with_what_mends_it():
    report = json.dumps({"dependencies": [VULNERABLE]})
    assert audit.read(report).vulnerable == ["b 2: PYSEC-1 (fixed in 3)"]
