"""Can the settings that accounts rely on be right? Said at start, not at the first destination."""

from typing import Any

from django.core import checks

from accounts import validators


def register() -> None:
    checks.register(check_policy)


def check_policy(**_: Any) -> list[checks.CheckMessage]:
    try:
        validators.policy()
    except ValueError as error:
        return [checks.Error(f"DESTINATION_ALLOW: {error}", id="accounts.E001")]
    return []
