"""How is the stage set? An Admin with an account, destinations, members and logs.

All of it was really made: the events were accepted, attempted at a receiver, sealed and logged.
"""

import re

from django.core import mail
from django.test import override_settings

from accounts import operations, queries
from delivery import queries as deliveries
from outbox import worker
from tests.fuzz.stage import PASSWORD, Stage
from tests.outbox.workers import Alice
from tests.receivers import Answer, Receiver

METRICS_TOKEN = "only-for-tests-of-metrics-0123456789"
LOOPBACK = "127.0.0.0/8"
EVENTS = 10


def prepare(url: str) -> Stage:
    """In the database that Django is pointed at."""
    alice = Alice(limit=1000)
    account = alice.account_id
    _deliver(alice)
    operations.register_user(email="bob@shop.example.org", password=PASSWORD)
    bob = operations.add_member(
        actor=alice.user, account_id=account, email="bob@shop.example.org", role="Normal user"
    )
    ids = {
        "account_id": [account],
        "destination_id": [one.pk for one in queries.destinations_of(account)],
        "member_id": [bob.pk],
        "log_id": [log.delivery_id for log in deliveries.logs(account)],
    }
    return Stage(
        url=url,
        email=alice.user.email,
        bearer=operations.log_in(email=alice.user.email, password=PASSWORD).access_token,
        token=operations.rotate_token(actor=alice.user, account_id=account).app_secret_token,
        metrics=METRICS_TOKEN,
        invitations=[_invitation(alice, f"invited{number}@shop.example.org") for number in range(10)],
        ids={name: [str(one) for one in found] for name, found in ids.items()},
    )


def _invitation(alice: Alice, email: str) -> str:
    """The token in the letter."""
    operations.add_member(actor=alice.user, account_id=alice.account_id, email=email, role="Normal user")
    found = re.search(r"cli_[0-9A-Za-z_]+", mail.outbox[-1].body)
    assert found is not None
    return found[0]


def _deliver(alice: Alice) -> None:
    """To a destination that takes all, and to one that refuses all."""
    with Receiver() as receiver:
        receiver.on("/refuses", Answer(400))
        alice.sends_to(receiver.url("/takes"), schedule=())
        alice.sends_to(receiver.url("/refuses"), schedule=())
        alice.posts(*(f"event-{number}" for number in range(EVENTS)), body=b'{"order": 1, "total": 9.90}')
        with override_settings(DESTINATION_ALLOW=[LOOPBACK], SHUTDOWN_GRACE_SECONDS=10):
            worker.drain(slot=0, seconds=1.0, hand_over=lambda: None)
