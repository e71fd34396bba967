"""The OpenAPI document as the tests see it: made anew, and as it is committed."""

import io
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from django.core.management import call_command

COMMITTED = Path(__file__).resolve().parents[2] / "docs" / "openapi.yaml"
METHODS = ("get", "post", "put", "patch", "delete")


@cache
def text() -> str:
    """As `make schema` writes it; a warning of drf-spectacular's, or a fault in its form, is an error."""
    written = io.StringIO()
    call_command("spectacular", stdout=written, validate=True, fail_on_warn=True)
    return written.getvalue()


@cache
def document() -> dict[str, Any]:
    return yaml.safe_load(text())


def operations(of: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Path, method, operation."""
    for path, item in of["paths"].items():
        for method, operation in item.items():
            assert method in METHODS
            yield path, method, operation


def resolved(of: dict[str, Any], thing: dict[str, Any]) -> dict[str, Any]:
    """What a reference refers to; anything else is itself."""
    while "$ref" in thing:
        target: Any = of
        for step in thing["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        thing = target
    return thing
