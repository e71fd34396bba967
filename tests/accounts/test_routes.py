"""What intake and workers read: only what is valid now, by an index, and past every cache."""

import asyncio
import base64
from uuid import uuid4

import psycopg
import pytest
from django.db import connection

from accounts import operations, routes
from accounts.encryption import Undecryptable
from tests.accounts.conftest import add_destination, register


def read(database, *ids) -> dict:
    async def with_connection() -> dict:
        async with await psycopg.AsyncConnection.connect(database.url, autocommit=True) as session:
            return await routes.read(session, ids)

    return asyncio.run(with_connection())


def key(text: str) -> bytes:
    return base64.b64decode(text.removeprefix("whsec_"))


@pytest.fixture
def owner(database):
    return register("owner")


@pytest.fixture
def shop(owner):
    return operations.create_account(actor=owner, name="Shop").account


@pytest.fixture
def made(owner, shop):
    return operations.create_destination(
        actor=owner,
        account_id=shop.pk,
        url="https://example.com/in",
        http_method="PUT",
        headers={"X-Token": "s3cret", "Accept": "*/*"},
        timeout_seconds=7,
        retry_schedule_seconds=[1, 2],
    )


class TestRoutes:
    def test_a_route_has_all_that_sending_needs(self, database, shop, made):
        destination, secret = made
        assert read(database, destination.pk) == {
            destination.pk: routes.Route(
                destination_id=destination.pk,
                account_id=shop.pk,
                url="https://example.com/in",
                http_method="PUT",
                headers=(("X-Token", "s3cret"), ("Accept", "*/*")),
                signing_secrets=(key(secret),),
                timeout_seconds=7,
                retry_schedule_seconds=(1, 2),
                active=True,
                paused=False,
                revision=1,
            )
        }

    def test_both_signing_secrets_while_they_overlap_and_one_after(self, database, owner, shop, made):
        destination, old = made
        where = {"actor": owner, "account_id": shop.pk, "destination_id": destination.pk}
        _, new = operations.rotate_signing_secret(**where, overlap_seconds=60)
        assert read(database, destination.pk)[destination.pk].signing_secrets == (key(new), key(old))
        with connection.cursor() as cursor:  # time passes: no new revision
            cursor.execute(
                "UPDATE accounts_destination SET previous_signing_secret_ends_at = clock_timestamp()"
            )
        assert read(database, destination.pk)[destination.pk].signing_secrets == (key(new),)

    def test_every_change_is_read_at_once(self, database, owner, shop, made):
        where = {"actor": owner, "account_id": shop.pk, "destination_id": made.destination.pk}
        read(database, made.destination.pk)
        operations.update_destination(**where, changes={"headers": {"X-Token": "other"}, "active": False})
        operations.pause_destination(**where)
        route = read(database, made.destination.pk)[made.destination.pk]
        assert (route.headers, route.active, route.paused) == ((("X-Token", "other"),), False, True)
        assert route.revision == 3

    def test_what_is_gone_is_missing(self, database, owner, shop, made):
        other = add_destination(owner, shop)
        assert set(read(database, made.destination.pk, other.pk, uuid4())) == {made.destination.pk, other.pk}
        operations.delete_destination(actor=owner, account_id=shop.pk, destination_id=other.pk)
        assert set(read(database, made.destination.pk, other.pk)) == {made.destination.pk}
        operations.delete_account(actor=owner, account_id=shop.pk)
        assert read(database, made.destination.pk) == {}

    def test_one_that_cannot_be_read_says_so(self, database, made, settings):
        settings.ENCRYPTION_KEYS = {"k9": b"\3" * 32}
        with pytest.raises(Undecryptable):
            read(database, made.destination.pk)

    def test_decrypted_secrets_are_kept_but_not_without_bound(self, database, made, monkeypatch):
        kept = routes._Opened(most_bytes=2000)
        monkeypatch.setattr(routes, "_opened", kept)
        decrypted = []
        decrypt = routes._decrypt
        monkeypatch.setattr(routes, "_decrypt", lambda *row: decrypted.append(row) or decrypt(*row))
        read(database, made.destination.pk)
        read(database, made.destination.pk)
        assert len(decrypted) == 1
        for number in range(10):
            kept.put((uuid4(), number, 1), ((), ()), 900)
        assert len(kept._kept) == 2
        assert kept._bytes == 1800
        kept.put((uuid4(), 1, 1), ((), ()), 5000)
        assert (len(kept._kept), kept._bytes) == (0, 0)
        read(database, made.destination.pk)
        assert len(decrypted) == 2


@pytest.mark.django_db
class TestIntake:
    def test_only_active_destinations_get_events(self, alice, account, destination):
        where = {"actor": alice, "account_id": account.pk, "destination_id": destination.pk}
        assert self.intake(account) == [(destination.pk, False)]
        operations.pause_destination(**where)
        assert self.intake(account) == [(destination.pk, True)]
        operations.update_destination(**where, changes={"active": False})
        assert self.intake(account) == []

    def intake(self, account) -> list:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT destination_id, paused FROM pusher.intake_destination WHERE account_id = %s",
                [account.pk],
            )
            return cursor.fetchall()


FILL = """
INSERT INTO accounts_account
       (id, name, website, rate_limit_per_second, revision, created_by_id, updated_by_id)
SELECT gen_random_uuid(), 'a', '', 5, 1, u.id, u.id FROM accounts_user u, generate_series(1, 5000);
INSERT INTO accounts_ingesttoken (id, account_id, key_id, digest, hint)
SELECT gen_random_uuid(), a.id, lpad((row_number() OVER ())::text, 12, '0'), sha256(a.id::text::bytea), ''
  FROM accounts_account a;
INSERT INTO accounts_destination
       (id, account_id, url, http_method, encrypted_headers, active, paused, timeout_seconds,
        retry_schedule_seconds, encrypted_signing_secret, encrypted_previous_signing_secret, revision,
        created_by_id, updated_by_id)
SELECT gen_random_uuid(), a.id, 'https://example.com/', 'POST', 'k1.' || repeat('A', 40), true, false, 15,
       '{}', 'k1.' || repeat('A', 40), '', 1, a.created_by_id, a.created_by_id
  FROM accounts_account a;
ANALYZE accounts_account, accounts_ingesttoken, accounts_destination
"""


@pytest.mark.parametrize(
    ("query", "index"),
    [
        ("SELECT * FROM pusher.intake_token WHERE key_id = '000000000077'", "accounts_ingesttoken_key_id"),
        ("SELECT * FROM pusher.intake_destination WHERE account_id = ANY(%s)", "destination_of_account"),
        ("SELECT * FROM pusher.route WHERE destination_id = ANY(%s)", "accounts_destination_pkey"),
    ],
)
def test_the_planner_looks_through_the_views_down_to_an_index(database, owner, query, index):
    tables = database.connect_owner()
    for statement in FILL.split(";"):
        tables.execute(statement)
    rows = tables.execute("EXPLAIN " + query, [[uuid4()]] if "%s" in query else None).fetchall()
    plan = "\n".join(line for (line,) in rows)
    assert index in plan, plan
    assert "Seq Scan" not in plan
    assert "Subquery Scan" not in plan
