"""What most tests of the outbox need: a receiver, and a connection to look with."""

import pytest

from tests.receivers import Receiver


@pytest.fixture
def receiver():
    with Receiver() as running:
        yield running


@pytest.fixture
def sql(database):
    return database.connect()
