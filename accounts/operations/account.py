"""What becomes of an account: created, updated, its token rotated, deleted?"""

from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import UUID

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Least, Now

from accounts import events, queries, tokens
from accounts.models import Account, IngestToken, Member, User, default_rate_limit
from accounts.operations import access, change
from accounts.operations.access import NotAllowed
from accounts.roles import IDS, Action, RoleName

CHANGEABLE = frozenset({"name", "website", "rate_limit_per_second"})
MOST_TOKENS = 10


class TooManyTokens(Exception):
    """So many earlier tokens are still valid that another can't be added; rotate without an overlap."""


class NewAccount(NamedTuple):
    """`app_secret_token` is shown once."""

    account: Account
    app_secret_token: str


class NewIngestToken(NamedTuple):
    """`app_secret_token` is shown once; `token.account` has changed with it."""

    token: IngestToken
    app_secret_token: str


@transaction.atomic
def create_account(
    *, actor: User, name: str, website: str = "", rate_limit_per_second: int | None = None
) -> NewAccount:
    """The actor becomes its Admin. Raises NotAllowed and Invalid."""
    if not queries.may_create_accounts(actor):
        raise NotAllowed("account.create")
    limit = default_rate_limit() if rate_limit_per_second is None else rate_limit_per_second
    account = Account(name=name, website=website, rate_limit_per_second=limit)
    change.check(account, CHANGEABLE)
    token, text = _add_token(account)
    account.save(actor=actor, force_insert=True)
    member = Member(account=account, user=actor, role_id=IDS[RoleName.ADMIN])
    member.save(actor=actor, force_insert=True)
    _record(events.Type.ACCOUNT_CREATED, account, actor, rate_limit_per_second=limit)
    _record(events.Type.TOKEN_CREATED, account, actor, key_id=token.key_id)
    events.record(
        events.Type.MEMBER_ADDED, account_id=account.pk, stream_id=member.pk, actor=actor,
        member=member.pk, user=actor.pk, role=RoleName.ADMIN.value,
    )  # fmt: skip
    return NewAccount(account, text)


@transaction.atomic
def update_account(
    *, actor: User, account_id: UUID, changes: Mapping[str, Any], revision: int | None = None
) -> Account:
    """Raises NotFound, NotAllowed (also for the rate limit, which is an Admin's), Stale and Invalid."""
    change.check_names(changes, CHANGEABLE)
    account = access.lock_account(actor, account_id, Action.UPDATE_ACCOUNT)
    change.check_revision(account, revision)
    changed = change.assign(account, changes)
    if "rate_limit_per_second" in changed:
        access.require(actor, account_id, Action.CHANGE_RATE_LIMIT)
    change.check(account, changed)
    if changed:
        account.save(actor=actor)
        limit = {"rate_limit_per_second": account.rate_limit_per_second}
        _record(
            events.Type.ACCOUNT_UPDATED,
            account,
            actor,
            fields=changed,
            **(limit if limit.keys() & set(changed) else {}),
        )
    return account


@transaction.atomic
def rotate_token(
    *, actor: User, account_id: UUID, overlap_seconds: int = 0, revision: int | None = None
) -> NewIngestToken:
    """A new secret; the earlier ones end after the overlap, or sooner where that was said before.

    Raises NotFound, NotAllowed, Stale, Invalid and TooManyTokens.
    """
    change.check_overlap(overlap_seconds)
    account = access.lock_account(actor, account_id, Action.ROTATE_TOKEN)
    change.check_revision(account, revision)
    earlier = IngestToken.objects.filter(account=account)
    # Least() passes over NULL: a token without an end gets one.
    earlier.update(expires_at=Least(F("expires_at"), change.in_seconds(overlap_seconds)))
    earlier.filter(expires_at__lte=Now()).delete()
    if earlier.count() >= MOST_TOKENS:
        raise TooManyTokens
    token, text = _add_token(account)
    account.save(actor=actor)
    _record(events.Type.TOKEN_ROTATED, account, actor, key_id=token.key_id, overlap_seconds=overlap_seconds)
    return NewIngestToken(token, text)


@transaction.atomic
def delete_account(*, actor: User, account_id: UUID, revision: int | None = None) -> None:
    """With its tokens, destinations and members at once; `rules` tells the rooms that keep more of it.

    Raises NotFound, NotAllowed and Stale.
    """
    account = access.lock_account(actor, account_id, Action.DELETE_ACCOUNT, deleting=True)
    change.check_revision(account, revision)
    account.delete()
    events.record(events.Type.ACCOUNT_DELETED, account_id=account_id, stream_id=account_id, actor=actor)


def _add_token(account: Account) -> tuple[IngestToken, str]:
    """The caller saves the account, which shows the newest."""
    made = tokens.make()
    token = IngestToken.objects.create(
        account=account, key_id=made.key_id, digest=made.digest, hint=made.hint
    )
    account.token_hint, account.token_created_at = token.hint, token.created_at
    return token, made.text


def _record(type_: events.Type, account: Account, actor: User, **data: Any) -> None:
    events.record(type_, account_id=account.pk, stream_id=account.pk, actor=actor, **data)
