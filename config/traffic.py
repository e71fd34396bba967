"""What may be set about traffic? How often one client may ask, from which origins, and in which words."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from config.environment import SettingError

OFF = "off"
SHORTEST_TOKEN = 16
_SECONDS = {"s": 1, "sec": 1, "min": 60, "h": 3600, "hour": 3600, "d": 86_400, "day": 86_400}
_RATE = re.compile(r"([1-9]\d{0,8})/([a-z]+)", re.ASCII)
_HOST = r"(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])"
_ORIGIN = re.compile(
    rf"https://{_HOST}(?::\d{{1,5}})?|http://(?:localhost|127\.0\.0\.1|\[::1\])(?::\d{{1,5}})?", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `number` requests in each window of so many `seconds`."""

    number: int
    seconds: int


def rate(name: str, value: str) -> Rate | None:
    """`1200/min`; None for `off`."""
    if value == OFF:
        return None
    match = _RATE.fullmatch(value)
    if match is None or match[2] not in _SECONDS:
        raise SettingError(
            f"{name} must be a number per s, min, hour or day, like 1200/min, or off; not {value!r}"
        )
    return Rate(int(match[1]), _SECONDS[match[2]])


def origins(name: str, values: Sequence[str]) -> list[str]:
    """Origins as browsers send them: scheme and host, a port where it isn't the usual one, nothing behind."""
    for value in values:
        if not _ORIGIN.fullmatch(value):
            raise SettingError(
                f"{name} must be origins like https://app.example.com, comma-separated "
                f"(http:// for localhost alone, no path, no *); not {value!r}"
            )
    return list(values)


def one_of(name: str, value: str, known: Collection[str]) -> str:
    if value not in known:
        raise SettingError(f"{name} must be one of {', '.join(known)}; not {value!r}")
    return value


def token(name: str, value: str) -> str:
    """A secret that callers present; empty: there is none. It is not quoted."""
    if value and (
        len(value) < SHORTEST_TOKEN or not value.isascii() or not value.isprintable() or " " in value
    ):
        raise SettingError(f"{name} must be at least {SHORTEST_TOKEN} visible ASCII characters")
    return value
