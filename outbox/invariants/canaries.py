"""Does a secret stand where it must not? We look for canaries: secrets that the caller has set out and names.

A canary is looked for as it is, in hex (bytea as text) and in base64 (pickled and signed texts), whichever of
three bytes it begins at. Compressed texts (sessions) hide it.
"""

import base64
from collections.abc import Sequence
from pathlib import Path

from outbox.invariants.findings import Finding
from outbox.invariants.question import Progress

SHORTEST = 8
READ_BYTES = 1 << 20


class UnfitCanary(ValueError):
    """A canary is at least 8 characters of visible ASCII, none of them a quote or a backslash."""


def check(canary: str) -> str:
    """Raises UnfitCanary: a shorter one is met by chance, another one is written in other ways."""
    if len(canary) < SHORTEST or not all("!" <= c <= "~" and c not in "\"'\\" for c in canary):
        raise UnfitCanary(UnfitCanary.__doc__)
    return canary


def needles(canaries: Sequence[str]) -> tuple[list[str], list[int]]:
    """All the forms, and for each the number of its canary, from 1."""
    pairs = [(form, place) for place, canary in enumerate(canaries, 1) for form in _forms(canary)]
    return [form for form, _ in pairs], [place for _, place in pairs]


def search_logs(canaries: Sequence[str], logs: Sequence[Path], finding: Finding, progress: Progress) -> None:
    """Look through files of log lines. Raises OSError."""
    if not canaries:
        return
    forms = [(form.encode(), place) for form, place in zip(*needles(canaries), strict=True)]
    for done, path in enumerate(logs):
        progress("I13 log files", done, len(logs))
        places = _places(path, forms)
        finding.add("log files", 1, len(places), [f"canary {place} stands in {path}" for place in places])


def _places(path: Path, forms: list[tuple[bytes, int]]) -> list[int]:
    found: set[int] = set()
    overlap = max(len(form) for form, _ in forms)
    before = b""
    with path.open("rb") as file:
        while part := file.read(READ_BYTES):
            window = before + part
            found |= {place for form, place in forms if form in window}
            before = window[-overlap:]
    return sorted(found)


def _forms(canary: str) -> list[str]:
    raw = canary.encode()
    forms = {canary, raw.hex()}
    for shift in range(3):
        # The characters at both ends depend on the neighbours: only those between are sure.
        inner = slice(-(-shift * 8 // 6), (shift + len(raw)) * 8 // 6)
        encoded = base64.b64encode(b"\0" * shift + raw).decode()[inner]
        forms |= {encoded, encoded.translate(str.maketrans("+/", "-_"))}
    return sorted(forms)
