"""Accounts that were there before a migration: what becomes of them?"""

from django.core.management import call_command

from accounts import operations, queries
from tests.accounts.conftest import register


def test_an_older_account_shows_its_newest_token(database):
    alice = register("alice")
    made = [operations.create_account(actor=alice, name=name).account for name in ("One", "Two")]
    operations.rotate_token(actor=alice, account_id=made[0].pk, overlap_seconds=60)
    before = [queries.account(alice, account.pk) for account in made]
    call_command("migrate", "accounts", "0003", verbosity=0)
    call_command("migrate", "accounts", verbosity=0)
    after = [queries.account(alice, account.pk) for account in made]
    for one, other in zip(before, after, strict=True):
        assert one.token_hint.startswith("clx_")
        assert (one.token_hint, one.token_created_at, one.revision) == (
            other.token_hint, other.token_created_at, other.revision,
        )  # fmt: skip
