"""Does filling write what accepting writes, and does it notice what was not accepted?"""

from types import SimpleNamespace

import pytest

from bench import filling
from bench.deployment import Account
from bench.run import Wrong
from tests.outbox import people


@pytest.fixture
def deployment(database):
    return SimpleNamespace(sql=database.connect_owner)


def as_made_by_the_api(owner: people.Account) -> Account:
    return Account(str(owner.id), owner.text, tuple(map(str, owner.destinations)))


def rows(sql, owner):
    """All that accepting one event leaves, without ids, times and salts."""
    query = """
        SELECT o.attempt, o.base, o.version, o.size, o.fence, o.lapses, o.refusals, o.held, o.epoch,
               o.due_at = e.recorded_at, o.delivery_id = pusher.delivery_id(e.stream_id, o.destination_id),
               k.client_id, p.body, e.payload_digest = sha256(p.salt || p.body), e.version, e.type,
               e.data -> 'size', jsonb_array_length(e.data -> 'deliveries')
          FROM outbox o
          JOIN event e ON e.account_id = o.account_id AND e.stream_id = o.event_id
          JOIN event_key k ON k.account_id = o.account_id AND k.event_id = o.event_id
          JOIN payload p ON p.account_id = o.account_id AND p.event_id = o.event_id
         WHERE o.account_id = %s ORDER BY k.client_id, o.destination_id"""
    return sql.execute(query, [owner.id]).fetchall()


def test_it_leaves_what_accepting_leaves(deployment, database) -> None:
    sql = database.connect()
    accepted, filled = (people.account(limit=1000, destinations=2) for _ in range(2))
    told = filling.fill(deployment, [as_made_by_the_api(filled)], events=3, prefix="order", body_bytes=100)
    body = rows(sql, filled)[0][12]

    people.events(accepted, ["order-0000000", "order-0000001", "order-0000002"], body=body)

    assert len(body) == 100
    assert told.rows == 6
    assert [one.event_id for one in told.acknowledged] == [f"order-000000{n}" for n in range(3)]
    assert rows(sql, filled) == rows(sql, accepted)
    assert len(rows(sql, filled)) == 6


def test_accounts_take_turns(deployment, database) -> None:
    owners = [people.account(limit=1000) for _ in range(3)]

    filling.fill(deployment, list(map(as_made_by_the_api, owners)), events=7, prefix="turn")

    counted = "SELECT count(*) FROM outbox GROUP BY account_id ORDER BY 1"
    assert database.connect().execute(counted).fetchall() == [(2,), (2,), (3,)]


def test_an_event_that_is_refused_is_no_filling(deployment) -> None:
    owner = as_made_by_the_api(people.account(limit=2))

    with pytest.raises(Wrong, match="1 of 3 events were not accepted: limited"):
        filling.fill(deployment, [owner], events=3, prefix="much")
