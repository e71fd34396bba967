"""Which rules hold however a row is written: by an operation, a command, or a shell?

An account takes everything along that is known of it: its destinations, members and tokens by the ORM's
cascade, and what other rooms keep (waiting deliveries, payloads, logs) by the signals sent here. They are
sent inside the deletion's own transaction, so a room that can't do its part stops the deletion.

A password that is set by Django's own means (its command `changepassword`, its forms) ends what the one
before has begun, as our own operation does.
"""

from functools import partial
from typing import Any

from django.db import transaction
from django.db.models.signals import post_delete, post_save, pre_delete

from accounts import events, signals
from accounts.models import AccessToken, Account, Destination, Invitation, User


def connect() -> None:
    pre_delete.connect(announce_deletion, sender=Account, dispatch_uid="accounts.announce_deletion")
    post_save.connect(announce_change, sender=Destination, dispatch_uid="accounts.announce_saved")
    post_delete.connect(announce_change, sender=Destination, dispatch_uid="accounts.announce_deleted")
    post_save.connect(end_access, sender=User, dispatch_uid="accounts.end_access")


def announce_deletion(*, instance: Account, **_: Any) -> None:
    account_id = instance.pk  # the instance has none any more when the transaction commits
    signals.account_deleting.send(sender=Account, account_id=account_id)
    announce = partial(signals.account_deleted.send, sender=Account, account_id=account_id)
    transaction.on_commit(announce, robust=True)


def announce_change(*, instance: Destination, **_: Any) -> None:
    signals.destination_changed.send(
        sender=Destination, destination_id=instance.pk, account_id=instance.account_id
    )


def end_access(*, instance: User, created: bool, **_: Any) -> None:
    was_set = getattr(instance, "_password", None) is not None  # by set_password(), until it is saved
    if created or not was_set:
        return
    with transaction.atomic():
        User.objects.select_for_update(no_key=True).get(pk=instance.pk)
        AccessToken.objects.filter(user=instance).delete()
        Invitation.objects.filter(user=instance).delete()
        events.record_of_user(events.Type.USER_PASSWORD_CHANGED, instance, actor=None)
