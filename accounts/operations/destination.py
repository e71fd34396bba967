"""What becomes of a destination: created, updated, paused or resumed, deactivated, deleted?"""

from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction

from accounts import events, masks, validators, vault
from accounts.models import Destination, User
from accounts.operations import access, change
from accounts.operations.change import Invalid
from accounts.roles import Action

FIELDS = frozenset({"url", "http_method", "active", "timeout_seconds", "retry_schedule_seconds"})
CHANGEABLE = FIELDS | {"headers"}
ROTATION_OVERLAP_SECONDS = 24 * 3600


class TooManyDestinations(Exception):
    """The account has as many destinations as it may."""


class NewDestination(NamedTuple):
    """`signing_secret` is shown once."""

    destination: Destination
    signing_secret: str


class NewSigningSecret(NamedTuple):
    """`signing_secret` is shown once."""

    destination: Destination
    signing_secret: str


@transaction.atomic
def create_destination(
    *, actor: User, account_id: UUID, url: str, http_method: str, headers: Mapping[str, str], **optional: Any
) -> NewDestination:
    """`optional`: active, timeout_seconds, retry_schedule_seconds.

    Raises NotFound, NotAllowed, Invalid and TooManyDestinations.
    """
    change.check_names(optional, FIELDS)
    account = access.lock_account(actor, account_id, Action.CREATE_DESTINATION)
    if account.destinations.count() >= settings.DESTINATIONS_PER_ACCOUNT:
        raise TooManyDestinations
    destination = Destination(account=account, url=url, http_method=http_method, **optional)
    sent, errors = _headers(headers, stored={})
    change.check(destination, FIELDS, errors)
    secret = vault.make_signing_secret()
    destination.keep_headers(sent)
    destination.keep_signing_secret(secret)
    destination.save(actor=actor, force_insert=True)
    _record(events.Type.DESTINATION_CREATED, destination, actor, active=destination.active)
    return NewDestination(destination, vault.as_text(secret))


@transaction.atomic
def update_destination(
    *,
    actor: User,
    account_id: UUID,
    destination_id: UUID,
    changes: Mapping[str, Any],
    revision: int | None = None,
) -> Destination:
    """Headers are replaced as a whole; a mask in them stands for what is stored.

    Secret ones don't follow to another scheme, host or port unless their values are sent again.
    Raises NotFound, NotAllowed, Stale and Invalid.
    """
    change.check_names(changes, CHANGEABLE)
    destination = access.lock_destination(actor, account_id, destination_id, Action.UPDATE_DESTINATION)
    change.check_revision(destination, revision)
    moved = "url" in changes and _is_elsewhere(changes["url"], than=destination.url)
    changed = change.assign(destination, {name: changes[name] for name in changes if name in FIELDS})
    errors = _replace_headers(destination, changes["headers"], changed) if "headers" in changes else {}
    if moved and not errors:
        errors = _kept_secrets(destination, changes)
    change.check(destination, changed, errors)
    if changed:
        destination.save(actor=actor)
        _record(
            events.Type.DESTINATION_UPDATED, destination, actor, fields=changed, active=destination.active
        )
    return destination


def pause_destination(
    *, actor: User, account_id: UUID, destination_id: UUID, revision: int | None = None
) -> Destination:
    """Its events wait from now on. Raises NotFound, NotAllowed and Stale."""
    return _set_paused(actor, account_id, destination_id, revision, paused=True)


def resume_destination(
    *, actor: User, account_id: UUID, destination_id: UUID, revision: int | None = None
) -> Destination:
    """What waited is sent now. Raises NotFound, NotAllowed and Stale."""
    return _set_paused(actor, account_id, destination_id, revision, paused=False)


@transaction.atomic
def _set_paused(
    actor: User, account_id: UUID, destination_id: UUID, revision: int | None, *, paused: bool
) -> Destination:
    destination = access.lock_destination(actor, account_id, destination_id, Action.PAUSE_DESTINATION)
    change.check_revision(destination, revision)
    if destination.paused != paused:
        destination.paused = paused
        destination.save(actor=actor)
        _record(
            events.Type.DESTINATION_PAUSED if paused else events.Type.DESTINATION_RESUMED, destination, actor
        )
    return destination


@transaction.atomic
def rotate_signing_secret(
    *,
    actor: User,
    account_id: UUID,
    destination_id: UUID,
    overlap_seconds: int = ROTATION_OVERLAP_SECONDS,
    revision: int | None = None,
) -> NewSigningSecret:
    """A new secret; the one before signs beside it until the overlap ends, unless it can't be decrypted.

    Raises NotFound, NotAllowed, Stale and Invalid.
    """
    change.check_overlap(overlap_seconds)
    destination = access.lock_destination(actor, account_id, destination_id, Action.ROTATE_SIGNING_SECRET)
    change.check_revision(destination, revision)
    if not destination.has_readable_signing_secret:
        overlap_seconds = 0  # nothing can be sent for as long as it stands beside the new one
    if overlap_seconds:
        destination.encrypted_previous_signing_secret = destination.encrypted_signing_secret
        destination.previous_signing_secret_ends_at = change.in_seconds(overlap_seconds)
    else:
        destination.encrypted_previous_signing_secret = ""
        destination.previous_signing_secret_ends_at = None
    secret = vault.make_signing_secret()
    destination.keep_signing_secret(secret)
    destination.save(actor=actor)
    _record(events.Type.DESTINATION_SECRET_ROTATED, destination, actor, overlap_seconds=overlap_seconds)
    return NewSigningSecret(destination, vault.as_text(secret))


@transaction.atomic
def delete_destination(
    *, actor: User, account_id: UUID, destination_id: UUID, revision: int | None = None
) -> None:
    """Raises NotFound, NotAllowed and Stale."""
    destination = access.lock_destination(actor, account_id, destination_id, Action.DELETE_DESTINATION)
    change.check_revision(destination, revision)
    destination.delete()
    events.record(
        events.Type.DESTINATION_DELETED, account_id=account_id, stream_id=destination_id, actor=actor,
        destination=destination_id,
    )  # fmt: skip


@transaction.atomic
def deactivate_destination(*, destination_id: UUID, reason: str) -> bool:
    """By the program itself, when a receiver says that it is gone for good. False: it was not active."""
    rows = Destination.objects.select_for_update(no_key=True)
    destination = rows.filter(pk=destination_id, active=True).first()
    if destination is None:
        return False
    destination.active = False
    destination.save(actor=None)
    _record(events.Type.DESTINATION_DEACTIVATED, destination, None, reason=reason)
    return True


def _replace_headers(
    destination: Destination, headers: Mapping[str, str], changed: list[str]
) -> dict[str, list[str]]:
    stored = destination.readable_headers
    sent, errors = _headers(headers, stored=stored or {})
    if not errors and sent != stored:
        destination.keep_headers(sent)
        changed.append("headers")
    return errors


def _is_elsewhere(url: str, *, than: str) -> bool:
    """False also for a URL that can't be one: its own field says so."""
    origin = validators.origin(url)
    return origin is not None and origin != validators.origin(than)


def _kept_secrets(destination: Destination, changes: Mapping[str, Any]) -> dict[str, list[str]]:
    """What is wrong with keeping them: whoever may change the URL could read them at an address of their own.

    To leave the headers out is to send back what is shown.
    """
    if "headers" not in changes and destination.readable_headers is None:
        return {"headers": ["They can't be read; send them again, because the address is another one."]}
    names = masks.masked(changes.get("headers", destination.shown_headers))
    errors = [f"{name}: send its value again, because the address is another one." for name in names]
    return {"headers": errors} if errors else {}


def _headers(
    sent: Mapping[str, str], *, stored: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, list[str]]]:
    """The headers that were meant, and what is wrong with them."""
    try:
        validators.validate_headers(sent)
        return masks.unmask(sent, stored), {}
    except ValidationError as error:
        return {}, Invalid.of("headers", error).errors
    except masks.NothingBehind as error:
        return {}, {
            "headers": [f"{name}: there is no stored value behind {masks.MASK}." for name in error.names]
        }


def _record(type_: events.Type, destination: Destination, actor: User | None, **data: Any) -> None:
    events.record(
        type_, account_id=destination.account_id, stream_id=destination.pk, actor=actor,
        destination=destination.pk, **data,
    )  # fmt: skip
