"""What the detail of a delivery shows at once is what its log shows when all is sealed, whatever happens."""

import random
from uuid import UUID, uuid4

import pytest

from delivery import queries
from delivery.models import DeliveryLog
from tests.databases import Database
from tests.delivery import logs
from tests.delivery.logs import Delivery
from tests.eventstore import stores

SHOWN = [field.name for field in DeliveryLog._meta.fields if field.name not in {"pk", "version", "position"}]


def accepted(connection) -> Delivery:
    event = uuid4()
    delivery = UUID(bytes=event.bytes[:6] + uuid4().bytes[6:])
    return Delivery(connection, event=event, id=delivery).received(Delivery(connection))


def shown(log: DeliveryLog) -> dict:
    return {name: getattr(log, name) for name in SHOWN}


def detail(delivery: Delivery) -> dict:
    return shown(queries.detail(delivery.account, delivery.id).log)


ENDS = ("succeeded", "exhausted", "cancelled", "never tried", "nothing more")


def live(delivery: Delivery, luck: random.Random) -> None:
    """One schedule of a delivery, as the outbox records it, from where the last one ended."""
    number = getattr(delivery, "number", 0)
    for _ in range(luck.randrange(3)):
        number += 1
        luck.choice((delivery.attempted, delivery.interrupted))(number)
    match luck.choice(ENDS):
        case "succeeded":
            number += 1
            delivery.succeeded(number)
        case "exhausted":
            number += 1
            delivery.exhausted(number)
        case "cancelled":
            delivery.cancelled()
        case "never tried":
            delivery.exhausted(None, "payload_erased")
        case _:
            pass
    delivery.number = number  # type: ignore[attr-defined]  # the test's own note on it


@pytest.mark.parametrize("seed", range(12))
def test_it_is_what_the_log_will_say(database: Database, seed):
    connection, luck = database.connect(), random.Random(seed)  # noqa: S311 - luck, not a secret
    delivery = accepted(connection)
    for turn in range(4):
        if turn:
            delivery.requested()
        if luck.random() < 0.5:
            logs.project(connection)  # the detail starts from here
        live(delivery, luck)
        before = detail(delivery)
        logs.project(connection)
        assert before == shown(queries.log(delivery.account, delivery.id)) == detail(delivery)


def test_it_is_there_from_the_moment_of_acceptance(database: Database):
    delivery = accepted(database.connect())
    found = queries.detail(delivery.account, delivery.id)
    assert (found.log.status, found.log.attempts, found.attempts) == ("pending", 0, [])
    assert (found.log.event_id, found.log.destination_id) == (delivery.event, delivery.destination)
    assert found.log.client_event_id == delivery.client_event_id


def test_of_one_that_was_tried_very_often_the_last_attempts_are_shown(database: Database, monkeypatch):
    delivery = accepted(database.connect())
    for number in range(1, 8):
        delivery.exhausted(number).requested()
    monkeypatch.setattr(queries, "MOST_EVENTS", 5)
    found = queries.detail(delivery.account, delivery.id)
    assert (found.log.status, found.log.attempts) == ("pending", 7)
    assert [attempt.number for attempt in found.attempts] == [6, 7]


def test_nobody_else_has_it(database: Database):
    connection = database.connect()
    delivery = accepted(connection)
    delivery.succeeded(1)
    stranger = uuid4()
    stores.append(connection, stranger)
    wanted = [
        (uuid4(), delivery.id),
        (delivery.account, delivery.event),
        (delivery.account, stranger),
        (delivery.account, uuid4()),
    ]
    for account, delivery_id in wanted:
        with pytest.raises(queries.NoSuchDeliveryError):
            queries.detail(account, delivery_id)
