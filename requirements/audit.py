"""Is a vulnerability known in what runs in production? pip-audit, over requirements/base.txt. (`make audit`)

Exit status 0: none is known. 1: some are. 2: nobody can tell, because the advisories can't be reached.
That is no reason to hold a change up, and none to call it safe.
"""

# ruff: noqa: INP001 (a script, and no package)
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
COULD_NOT_TELL = 2
MOST_SECONDS = 300


@dataclass(frozen=True)
class Audit:
    """What is known of `looked_up` packages; of the `skipped` ones nothing is."""

    vulnerable: list[str]
    skipped: list[str]
    looked_up: int

    @property
    def status(self) -> int:
        if self.vulnerable:
            return 1
        return COULD_NOT_TELL if self.skipped or not self.looked_up else 0


def read(report: str) -> Audit:
    """pip-audit's JSON; what is none (it could not ask at all) says nothing about anything."""
    try:
        dependencies = json.loads(report)["dependencies"]
    except (ValueError, LookupError, TypeError):
        return Audit([], [], 0)
    known = [one for one in dependencies if "skip_reason" not in one]
    return Audit(
        vulnerable=[line for one in known for line in _vulnerabilities(one)],
        skipped=[one["name"] for one in dependencies if "skip_reason" in one],
        looked_up=len(known),
    )


def _vulnerabilities(package: dict[str, Any]) -> list[str]:
    return [
        f"{package['name']} {package['version']}: {one['id']}"
        f" (fixed in {', '.join(one['fix_versions']) or 'no version'})"
        for one in package["vulns"]
    ]


def main() -> int:
    # A tool of its own, beside .venv: it is no dependency of ours. Hashes are pinned, so it installs nothing.
    command = [HERE / "uv", "tool", "run", "pip-audit", "--requirement", HERE / "base.txt", "--disable-pip"]
    try:
        done = subprocess.run(  # noqa: S603 - our own command
            [*map(str, command), "--format", "json", "--progress-spinner", "off"],
            capture_output=True, text=True, check=False, timeout=MOST_SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        found, said = Audit([], [], 0), f"It took over {MOST_SECONDS} s."
    else:
        found, said = read(done.stdout), done.stderr.strip()
    for line in found.vulnerable:
        sys.stdout.write(f"VULNERABLE {line}\n")
    if found.status == COULD_NOT_TELL:
        sys.stdout.write(
            f"NOT AUDITED: {found.looked_up} packages were looked up, {len(found.skipped) or 'all'} not."
            f" Run `make audit` where PyPI answers.\n"
        )
        sys.stdout.write("" if found.skipped else f"{said}\n")
    elif not found.vulnerable:
        sys.stdout.write(f"No vulnerability is known in {found.looked_up} packages.\n")
    return found.status


if __name__ == "__main__":
    sys.exit(main())
