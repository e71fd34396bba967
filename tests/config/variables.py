"""Which environment variables does the program read? Those that the typed readers are called with."""

import ast
import contextlib
import functools
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


@functools.cache
def defaults() -> dict[str, str]:
    """What the readers take where nothing is set, as one would write it; where that is a constant."""
    found = {}
    for room in ROOMS:
        for file in (CODE / room).rglob("*.py"):
            for name, call in _calls(file):
                given = [*call.args[1:2], *(word.value for word in call.keywords if word.arg == "default")]
                with contextlib.suppress(NameError):  # DATA_DIR's is a name
                    value = eval(ast.unparse(given[0])) if given else ""  # noqa: S307 (our own code)
                    found[name] = str(int(value)) if isinstance(value, bool) else str(value)
    return found


def _names(file: Path) -> Iterator[str]:
    return (name for name, _ in _calls(file))


def _calls(file: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in READERS:
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str) and first.value.isupper():
                yield first.value, node
