"""How does a setting get from the environment into a type? Each reader fails with the variable's name."""

import os


class SettingError(ValueError):
    """An environment variable holds something that the setting can't be; the message names it."""


def text(name: str, default: str = "") -> str:
    return os.environ.get(name, "").strip() or default


def number(name: str, default: int, *, low: int = 0, high: int = 2**31 - 1) -> int:
    raw = text(name)
    if not raw:
        return default
    try:
        value = int(raw)
    except ValueError:
        raise SettingError(f"{name} must be a whole number, not {raw!r}") from None
    if not low <= value <= high:
        raise SettingError(f"{name} must be from {low} to {high}, not {value}")
    return value


def flag(name: str, default: bool) -> bool:
    raw = text(name).lower()
    if not raw:
        return default
    if raw in {"1", "true", "yes", "on"}:
        return True
    if raw in {"0", "false", "no", "off"}:
        return False
    raise SettingError(f"{name} must be 1 or 0, not {raw!r}")


def listed(name: str) -> list[str]:
    return [part.strip() for part in text(name).split(",") if part.strip()]
