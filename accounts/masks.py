"""How are secret header values shown, and what if the mask comes back?"""

from collections.abc import Mapping, Sequence

from guard import headers as guard_headers

MASK = "********"


class NothingBehind(Exception):
    """The mask stands where no masked value is stored; `names` are the headers'."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(", ".join(names))
        self.names = names


def mask(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: MASK if guard_headers.is_secret(name) else value for name, value in headers.items()}


def unmask(sent: Mapping[str, str], stored: Mapping[str, str]) -> dict[str, str]:
    """What was sent, with what is stored wherever the mask was sent back. Raises NothingBehind."""
    kept = {name.lower(): value for name, value in stored.items() if guard_headers.is_secret(name)}
    # Also where nothing is secret: a masked header that was given another name would send the mask itself.
    if unknown := [name for name in masked(sent) if name.lower() not in kept]:
        raise NothingBehind(unknown)
    return {name: kept[name.lower()] if value == MASK else value for name, value in sent.items()}


def masked(headers: Mapping[str, str]) -> list[str]:
    """The names of those that have the mask for a value."""
    return [name for name, value in headers.items() if value == MASK]
