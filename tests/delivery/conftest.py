"""A receiver for each test, and the certainty that none dials anything but loopback."""

import sys

import pytest

from tests.receivers import receiver

__all__ = ["receiver"]

_dialled: list[tuple[str, int]] = []


def _watch(event: str, args: tuple[object, ...]) -> None:
    if event == "socket.connect" and isinstance(args[1], tuple):
        _dialled.append(args[1][:2])


sys.addaudithook(_watch)


@pytest.fixture(autouse=True)
def dialled():
    """The addresses that the test dials; any other than loopback fails it."""
    _dialled.clear()
    yield _dialled
    strangers = [address for address, _ in _dialled if not address.startswith("127.") and address != "::1"]
    assert not strangers


@pytest.fixture(params=["uvloop", pytest.param("asyncio", marks=pytest.mark.slow)])
def loop(request):
    """The name of each event loop that workers may run: uvloop wherever it is to be had."""
    return request.param
