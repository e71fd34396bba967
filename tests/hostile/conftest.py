"""People for the API, and the certainty that no test dials anything but loopback."""

from tests.api.conftest import account, alice, bob
from tests.delivery.conftest import dialled

__all__ = ["account", "alice", "bob", "dialled"]
