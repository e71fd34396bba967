"""What may an operator do while traffic flows? Restart, change every key, and restore a dump elsewhere.

One gateway sees all of it: two web processes behind a balancer, and a worker.
"""

import base64
import collections
import contextlib
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.faults import client
from tests.faults.deployment import Account, wait_for
from tests.faults.receiver import Control
from tests.journeys import clusters
from tests.journeys.gateway import Gateway


@pytest.fixture
def gateway(database, tmp_path) -> Iterator[Gateway]:
    with (
        Control(tmp_path / "sightings.jsonl") as receiver,
        Gateway(database, tmp_path, receiver) as running,
    ):
        yield running


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_nobody_notices_an_operator_at_work(gateway, tmp_path, subtests):
    with subtests.test("a rolling restart brings new keys"):
        _restart_with_new_keys(gateway)
    with subtests.test("the token and the signing secret change"):
        _rotate(gateway)
    with subtests.test("a dump taken under load is restored elsewhere"):
        _restore(gateway, tmp_path)


@contextlib.contextmanager
def unnoticed(gateway: Gateway, name: str) -> Iterator[tuple[Account, client.Load]]:
    """Traffic inside. Afterwards: each request was answered once, by 202, and each delivery seen once."""
    account = gateway.account(name)
    gateway.receiver.behave(f"/{name}", delay=[0.1, 0.4])  # so that there is always something under way
    load = gateway.traffic(account, name)
    try:
        yield account, load
    finally:
        load.stop()
        load.wait()
    gateway.until_delivered()
    lines = client.read_ledger(load.ledger)
    sent = {line["event_id"] for line in lines}
    assert collections.Counter(line["status"] for line in lines) == {202: len(sent)}, gateway.balancer.counted
    assert len(sent) > 100
    seen = gateway.sightings(account)
    assert sorted(one["event_id"] for one in seen) == sorted(sent)
    assert {(one["attempt"], one["signed"], one["status"]) for one in seen} == {(1, True, 200)}
    assert _count(gateway, "event WHERE type = 'delivery.interrupted'") == 0
    assert gateway.balancer.counted["cut short"] == 0


def _count(gateway: Gateway, what: str) -> int:
    return gateway.database.connect().execute(f"SELECT count(*) FROM {what}").fetchone()[0]


def _restart_with_new_keys(gateway: Gateway) -> None:
    key = "k2:" + base64.b64encode(secrets.token_bytes(32)).decode()
    browser = httpx.Client(base_url=gateway.api.base_url)
    with browser, unnoticed(gateway, "rolling"):
        browser.post("/auth/login/", json=gateway.person | {"session": True}).raise_for_status()
        assert browser.get("/auth/me/").status_code == 200

        both = f"{key},{gateway.environment['ENCRYPTION_KEYS']}"
        gateway.environment |= {"ENCRYPTION_KEYS": both, "SECRET_KEY": secrets.token_urlsafe(48)}
        gateway.restart_web()
        gateway.restart_worker()
        assert browser.get("/auth/me/").status_code == 401  # sessions end with SECRET_KEY
        assert gateway.api.get("/auth/me/").status_code == 200  # tokens don't

        assert "under key k2" in gateway.manage("rotate_encryption")
        gateway.environment["ENCRYPTION_KEYS"] = key
        gateway.restart_worker()  # it opens headers and signing secrets by the new key alone
        time.sleep(1)
    assert gateway.balancer.counted["no answer"] > 0, "nobody asked while one was away"
    under_another = "encrypted_headers !~ '^k2[.]' OR encrypted_signing_secret !~ '^k2[.]'"
    assert _count(gateway, f"accounts_destination WHERE {under_another}") == 0


def _rotate(gateway: Gateway) -> None:
    with unnoticed(gateway, "rotated") as (account, load):
        at = f"/accounts/{account.id}"
        made = gateway.call("POST", f"{at}/token/rotate/", overlap_seconds=2)
        load.token = made["app_secret_token"]
        destination = f"{at}/destinations/{account.destinations[0].id}"
        made = gateway.call("POST", f"{destination}/signing-secret/rotate/", overlap_seconds=2)
        time.sleep(1)  # for a while the receiver goes on to check by the secret before
        gateway.receiver.know(f"{gateway.receiver.url}/rotated", made["signing_secret"])
        time.sleep(2.5)  # then the new ones are alone
        assert _status(gateway, account.token) == 401


def _status(gateway: Gateway, token: str) -> int:
    headers = {"CL-X-TOKEN": token, "CL-X-EVENT-ID": "by-hand"}
    return httpx.post(f"{gateway.url}/server/incoming_data", headers=headers, json={}).status_code


def _restore(gateway: Gateway, folder: Path) -> None:
    """It sends nothing until `after_restore`; then it has all that was acknowledged before the dump."""
    dump = folder / "dump"
    with unnoticed(gateway, "dumped") as (account, load):
        time.sleep(1)
        dumped_at = time.time()
        clusters.dump(gateway.database.owner_url, dump)
        time.sleep(0.5)
    gateway.check_invariants()  # also for what went before
    before = len(gateway.sightings(account))
    with clusters.Cluster(folder / "new", dump, gateway.environment) as new:
        with new.worker() as said:
            wait_for(lambda: "after_restore" in said.read_text(), "the worker to say what it waits for")
            time.sleep(1)
        assert len(gateway.sightings(account)) == before

        assert "Epoch 2" in new.manage("after_restore")
        with new.worker():
            wait_for(lambda: "not yet sealed: 0" in new.manage("verify"), "all to be sealed")
            wait_for(lambda: len(gateway.sightings(account)) > before, "what waited when it was dumped")
            wait_for(lambda: new.waiting() == 0, "an empty outbox")
        again = gateway.sightings(account)[before:]
        assert {one["attempt"] for one in again} == {2}  # the first may have been sent after the dump
        books = ["--ledger", load.ledger, "--sightings", gateway.receiver.sightings_file]
        new.manage("check_invariants", "--acknowledged-before", str(dumped_at), *map(str, books))
