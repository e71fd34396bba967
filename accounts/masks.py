"""How are secret header values shown, and what if the mask comes back?"""

from collections.abc import Mapping

from guard import headers as guard_headers

MASK = "********"


class NothingBehind(Exception):
    """The mask stands for a header that isn't stored; `name` is the header's."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def mask(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: MASK if guard_headers.is_secret(name) else value for name, value in headers.items()}


def unmask(sent: Mapping[str, str], stored: Mapping[str, str]) -> dict[str, str]:
    """What was sent, with what is stored wherever the mask was sent back. Raises NothingBehind."""
    kept = {name.lower(): value for name, value in stored.items()}
    return {name: _unmask(name, value, kept) for name, value in sent.items()}


def _unmask(name: str, value: str, kept: Mapping[str, str]) -> str:
    if value != MASK or not guard_headers.is_secret(name):
        return value
    if name.lower() not in kept:
        raise NothingBehind(name)
    return kept[name.lower()]
