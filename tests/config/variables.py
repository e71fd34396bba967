"""Which environment variables does the program read? Those that the typed readers are called with."""

import ast
from collections.abc import Iterator
from pathlib import Path

from config.embedded import CODE

READERS = {"text", "number", "flag", "listed"}
ROOMS = ("config", "guard", "eventstore", "accounts", "delivery", "outbox", "api", "demo")


def read() -> set[str]:
    files = [file for room in ROOMS for file in (CODE / room).rglob("*.py")]
    return {name for file in files for name in _names(file)}


def documented() -> dict[str, str]:
    """`.env.example`'s variables and the defaults it tells."""
    found = {}
    for line in (CODE / ".env.example").read_text().splitlines():
        name, equals, rest = line.removeprefix("#").partition("=")
        if equals and name.replace("_", "").isalnum() and name.isupper():
            value, _, what = rest.partition("  # ")
            assert what, f"{name} has no explanation"
            found[name] = value
    return found


def _names(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in READERS:
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str) and first.value.isupper():
                yield first.value
