"""The sealed history of an account, page by page: nothing is missed, comes twice, or is secret."""

import threading
import time
from uuid import uuid4

import pytest
from rest_framework.test import APIClient

from accounts import operations
from eventstore import blocks
from tests.api.conftest import PASSWORD, person
from tests.eventstore import stores

MISSING = "0199aaaa-0000-7000-8000-000000000000"


def path(account) -> str:
    return f"/accounts/{getattr(account, 'pk', account)}/events/"


def walk(client, url, link="next"):
    """All results from a page on, and how many pages there were."""
    found, pages = [], 0
    while url:
        reply = client.get(url)
        assert reply.status_code == 200, reply.content
        page = reply.json()
        found.append(page["results"])
        pages += 1
        url = page[link]
    return found, pages


@pytest.fixture
def alice(database):
    return person("alice")


@pytest.fixture
def account(alice):
    return operations.create_account(actor=alice.user, name="Orders").account


@pytest.fixture
def sql(database):
    return database.connect()


def record(sql, account, count=1, **options):
    stores.append(sql, count=count, account=account.pk, **options)


def test_an_event_is_shown_as_it_was_sealed(alice, account, sql):
    stream = uuid4()
    sql.execute(
        "SELECT pusher.append(0::smallint, %s, %s, '{1}', '{a.b}', %s::jsonb[], %s, '2026-11-21T01:02:03Z')",
        [
            [account.pk],
            [stream],
            [stores.Jsonb({"big": 10**30, "text": "\u00e9\U0001f600", "list": [[1, None], {}]})],
            [b"\x01" * 32],
        ],
    )
    assert alice.get(path(account)).json()["results"] == []  # nothing is sealed yet
    blocks.seal_all()
    *_, before, shown = alice.get(path(account)).json()["results"]
    assert shown == {
        "position": before["position"] + 1,
        "block": 1,
        "type": "a.b",
        "stream_id": str(stream),
        "version": 1,
        "recorded_at": "2026-11-21T01:02:03.000000Z",
        "payload_digest": "01" * 32,
        "data": {"big": 10**30, "text": "\u00e9\U0001f600", "list": [[1, None], {}]},
    }
    assert shown["data"]["big"] == 10**30


def test_the_pages_lead_through_all_of_it_and_back(alice, account, sql):
    other = operations.create_account(actor=alice.user, name="Another").account
    for n in range(4):
        record(sql, account, 6, data={"n": n})
        record(sql, other, 5)
        blocks.seal_all()
    client = alice._client()
    first = f"http://testserver/api/v1{path(account)}?page_size=5"
    forward, pages = walk(client, first)
    results = [event for page in forward for event in page]
    positions = [event["position"] for event in results]
    assert positions == sorted(set(positions))
    assert (len(positions), pages) == (27, 6)
    assert [event["data"]["n"] for event in results[3:]] == [n for n in range(4) for _ in range(6)]
    last = client.get(f"{first}&after={positions[-1]}").json()
    assert (last["results"], last["next"]) == ([], None)
    backward, _ = walk(client, last["previous"], link="previous")
    assert backward[0] == results[-5:]
    assert backward[1] == results[-10:-5]
    assert backward[-1] == results[:5]


def test_a_page_that_holds_all_has_no_neighbours(alice, account):
    blocks.seal_all()
    page = alice.get(path(account)).json()
    assert (page["next"], page["previous"], len(page["results"])) == (None, None, 3)
    exact = alice.get(path(account), page_size=3).json()
    assert (exact["next"], len(exact["results"])) == (None, 3)
    short = alice.get(path(account), page_size=2).json()
    assert short["next"].startswith("http://testserver/api/v1/accounts/")
    assert f"after={short['results'][-1]['position']}" in short["next"]


def test_everyone_who_is_a_member_reads_it_and_nobody_else(alice, account):
    bob, charlie = person("bob"), person("charlie")
    member = operations.add_member(
        actor=alice.user, account_id=account.pk, email=bob.user.email, role="Normal user"
    )
    blocks.seal_all()
    assert bob.get(path(account)).json() == alice.get(path(account)).json()
    assert charlie.get(path(account)).status_code == 404
    assert alice.get(path(MISSING)).status_code == 404
    assert alice.get(path("7")).status_code == 404
    assert APIClient().get(f"/api/v1{path(account)}").status_code == 401
    operations.remove_member(actor=alice.user, account_id=account.pk, member_id=member.pk)
    assert bob.get(path(account)).status_code == 404
    operations.delete_account(actor=alice.user, account_id=account.pk)
    blocks.seal_all()
    assert alice.get(path(account)).status_code == 404


REFUSED = {
    "after": ("-1", "1.0", "x", "", str(2**63), "9" * 40, "\u0661", "1 "),
    "page_size": ("0", "101", "x", ""),
    "cursor": ("x",),
    "ordering": ("position",),
    "type": ("event.received",),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in REFUSED for value in REFUSED[name]])
@pytest.mark.django_db
def test_what_it_does_not_know_it_refuses(name, value):
    alice = person("alice")
    account = operations.create_account(actor=alice.user, name="Orders").account
    reply = alice.get(path(account), **{name: value})
    assert reply.status_code == 400
    assert reply.json()["errors"].keys() == {name}


@pytest.mark.parametrize("after", [0, 2**63 - 1])
def test_any_position_may_be_asked_for(alice, account, after):
    assert alice.get(path(account), after=after, page_size=100).status_code == 200


def test_it_is_only_read(alice, account):
    for reply in (alice.post(path(account), {}), alice.put(path(account), {}), alice.delete(path(account))):
        assert reply.status_code == 405


def test_a_page_costs_a_fixed_number_of_queries(alice, account, sql, django_assert_max_num_queries):
    record(sql, account, 60)
    blocks.seal_all()
    for size in (1, 50):
        with django_assert_max_num_queries(6):
            assert len(alice.get(path(account), page_size=size, after=1).json()["results"]) == size


SECRETS = {
    "email": "canary-person@people.example.com",
    "website": "https://canary-website.example.com",
    "url": "https://canary-host.example.com/canary-path?canary-query=1",
    "header": "canary-header-value",
    "name": "canary-name",
}


def test_it_tells_no_secret_and_nothing_personal(alice, account, sql):
    """Whatever is done to an account: what its history tells is ids, names of fields, numbers, switches."""
    ids = {"actor": alice.user, "account_id": account.pk}
    operations.update_account(**ids, changes={"name": SECRETS["name"], "website": SECRETS["website"]})
    token = operations.rotate_token(**ids, overlap_seconds=5).app_secret_token
    headers = {"Authorization": SECRETS["header"], "X-Other": SECRETS["header"]}
    made = operations.create_destination(**ids, url=SECRETS["url"], http_method="POST", headers=headers)
    ids |= {"destination_id": made.destination.pk}
    operations.update_destination(**ids, changes={"headers": {"X-New": SECRETS["header"]}})
    rotated = operations.rotate_signing_secret(**ids).signing_secret
    tested = alice.post(f"/accounts/{account.pk}/destinations/{made.destination.pk}/test/")
    assert tested.status_code == 201
    operations.pause_destination(**ids)
    operations.resume_destination(**ids)
    operations.delete_destination(**ids)
    members = f"/accounts/{account.pk}/members/"
    assert alice.post(members, {"email": SECRETS["email"], "role": "Normal user"}).status_code == 201
    blocks.seal_all()
    text = alice.get(path(account), page_size=100).content.decode()
    kinds = {"account.updated", "token.rotated", "destination.tested", "destination.deleted"}
    assert all(f'"{kind}"' in text for kind in kinds)
    for secret in (*SECRETS.values(), "canary", token, made.signing_secret, rotated, PASSWORD, alice.token):
        assert secret not in text
    assert alice.user.email not in text


@pytest.mark.slow
def test_who_reads_on_after_the_last_position_misses_nothing_while_blocks_are_sealed(
    alice, account, database
):
    """Writers whose transactions end out of order, two sealers with small blocks, and two who poll."""
    writing, stop = 4, threading.Event()
    wrote: list[set[str]] = [set() for _ in range(writing)]

    def write(number):
        connection = database.connect(autocommit=False)
        for turn in range(20):
            streams = [uuid4() for _ in range(3)]
            stores.append(connection, *streams, account=account.pk)
            time.sleep(0.002 * ((number + turn) % writing))
            if turn % 7:
                connection.commit()
                wrote[number] |= {str(stream) for stream in streams}
            else:
                connection.rollback()

    def go_on_sealing():
        connection = database.connect()
        while not stop.is_set():
            stores.seal(connection, 5)

    errors: list[Exception] = []
    sealers = [guarded(errors, go_on_sealing) for _ in range(2)]
    writers = [guarded(errors, write, number) for number in range(writing)]
    seen = {size: [] for size in (3, 100)}
    ends = time.monotonic() + 30
    while time.monotonic() < ends:
        at_rest = not any(writer.is_alive() for writer in writers)
        grown = [poll(alice, account, size, events) for size, events in seen.items()]
        if at_rest and not any(grown) and len(seen[3]) == 3 + sum(map(len, wrote)):
            break
    stop.set()
    for thread in (*sealers, *writers):
        thread.join()
    assert errors == []
    for events in seen.values():
        positions = [position for position, _ in events]
        assert positions == sorted(set(positions))
        streams = [stream for _, stream in events[3:]]  # after what the account began with
        assert len(streams) == len(set(streams))
        assert set(streams) == set.union(*wrote)
    assert seen[3] == seen[100]


def guarded(errors, work, *arguments):
    def run():
        try:
            work(*arguments)
        except Exception as error:  # noqa: BLE001 - handed to the test
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def poll(alice, account, size, events) -> bool:
    after = events[-1][0] if events else 0
    page = alice.get(path(account), after=after, page_size=size).json()["results"]
    events += [(event["position"], event["stream_id"]) for event in page]
    return bool(page)
