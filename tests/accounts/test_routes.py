"""What intake and workers read: only what is valid now, by an index, and past every cache."""

import asyncio
import base64
import json
from uuid import uuid4

import psycopg
import pytest
from django.db import connection

from accounts import operations, routes
from accounts.encryption import Undecryptable
from accounts.models import Destination, IngestToken
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


@pytest.mark.django_db
class TestPlans:
    """The planner looks through the views, down to an index on the table."""

    @pytest.mark.parametrize(
        ("query", "index"),
        [
            ("SELECT * FROM pusher.intake_token WHERE key_id = 'a'", "accounts_ingesttoken_key_id"),
            ("SELECT * FROM pusher.intake_destination WHERE account_id = ANY(%s)", "destination_of_account"),
            (
                "SELECT * FROM pusher.route WHERE destination_id = ANY(%s)",
                "accounts_destination_pkey",
            ),
        ],
    )
    def test_by_an_index(self, query, index):
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL enable_seqscan = off")
            cursor.execute("EXPLAIN (FORMAT JSON) " + query, [[uuid4()]] if "%s" in query else None)
            plan = json.dumps(cursor.fetchone()[0])
        assert index in plan
        assert "Subquery Scan" not in plan

    def test_by_an_index_of_its_own_accord_when_there_are_many(self, account):
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO accounts_ingesttoken (id, account_id, key_id, digest, hint)"
                " SELECT gen_random_uuid(), %s, lpad(n::text, 12, '0'), sha256(n::text::bytea), '' "
                " FROM generate_series(1, 20000) n",
                [account.pk],
            )
            cursor.execute("ANALYZE accounts_ingesttoken")
            cursor.execute("EXPLAIN SELECT * FROM pusher.intake_token WHERE key_id = '000000000077'")
            assert "Index Scan using accounts_ingesttoken_key_id" in str(cursor.fetchall())
        assert IngestToken.objects.count() == 20_001
        assert Destination.objects.count() == 0
