"""Is the floor of delivering really what a delivery sends?"""

from uuid import uuid4

import pytest
from django.conf import settings

from bench import client
from bench.receiver import Receiver
from delivery.message import Message, Target, compose


def test_the_bare_client_sends_the_headers_of_a_delivery() -> None:
    message = Message(uuid4(), "bare-000000001", 1, b"{}")
    target = Target("http://127.0.0.1:9999/0", "POST", (), (b"secret",), 15)
    delivery = dict(compose(message, target, now=1_700_000_000).headers)

    assert client.headers(1).keys() == delivery.keys()
    assert {name: len(value) for name, value in client.headers(1).items()} == {
        name: len(value) for name, value in delivery.items()
    }


def test_it_has_as_many_under_way_as_a_drain() -> None:
    assert settings.DRAIN_CONCURRENCY == client.CONCURRENCY


@pytest.mark.slow  # a process that sends
def test_its_rate_is_what_the_receiver_saw() -> None:
    with Receiver() as receiver:
        bare = client.measure(receiver, seconds=0.2)

        assert receiver.count() == 0
    assert bare.rate > 100
    assert 10 < bare.cpu < 100_000
