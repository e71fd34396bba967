"""How do stored secrets get onto the current encryption key, while the program runs?

Row by row, each locked for its own short transaction and read again under the lock: a change that was made
meanwhile is kept, several runs do no harm, and nobody waits for longer than one row takes.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

from django.db import transaction
from django.db.models import Q, QuerySet

from accounts import encryption, vault
from accounts.encryption import AnswerPlace, Place, Undecryptable
from accounts.models import Destination, KeptAnswer

FIELDS = {
    "encrypted_headers": vault.HEADERS,
    "encrypted_signing_secret": vault.SIGNING_SECRET,
    "encrypted_previous_signing_secret": vault.SIGNING_SECRET,
}


@dataclass(frozen=True, slots=True)
class Step:
    """One destination: under the current key now, or `unreadable`."""

    destination_id: UUID
    unreadable: bool


def outdated() -> QuerySet[Destination]:
    """Destinations with a secret under another key than the current one."""
    prefix = encryption.current_key_id() + "."
    others = Q()
    for field in FIELDS:
        others |= ~Q(**{f"{field}__startswith": prefix}) & ~Q(**{field: ""})
    return Destination.objects.filter(others)


def rotate(*, at_once: int = 500) -> Iterator[Step]:
    """Read in slices of `at_once`, in the order of ids; one step per destination."""
    after = UUID(int=0)
    while True:
        ids = list(outdated().filter(pk__gt=after).order_by("pk").values_list("pk", flat=True)[:at_once])
        if not ids:
            return
        for destination_id in ids:
            yield Step(destination_id, unreadable=not _rotate_one(destination_id))
        after = ids[-1]


@transaction.atomic
def _rotate_one(destination_id: UUID) -> bool:
    row = Destination.objects.select_for_update(no_key=True).filter(pk=destination_id).first()
    if row is None:
        return True
    try:
        anew = {field: _anew(row, field) for field in FIELDS}
    except Undecryptable:
        return False
    # Past save(): the secrets are the same, so the revision stays, and nobody has to hear of it.
    Destination.objects.filter(pk=destination_id).update(**anew)
    return True


def _anew(row: Destination, field: str) -> str:
    stored = str(getattr(row, field))
    if not stored or encryption.is_current(stored):
        return stored
    place = Place(row.account_id, row.pk, FIELDS[field])
    return encryption.encrypt(encryption.decrypt(stored, place), place)


def rotate_answers() -> None:
    """Kept answers too: those that can't be read any more stay so for the rest of their day."""
    prefix = encryption.current_key_id() + "."
    others = KeptAnswer.objects.exclude(encrypted_answer__startswith=prefix).exclude(encrypted_answer="")
    for pk in list(others.values_list("pk", flat=True)):
        _rotate_answer(pk)


@transaction.atomic
def _rotate_answer(pk: UUID) -> None:
    row = KeptAnswer.objects.select_for_update(no_key=True).filter(pk=pk).first()
    if row is None:
        return
    place = AnswerPlace(row.user_id, row.pk)
    with suppress(Undecryptable):
        row.encrypted_answer = encryption.encrypt(encryption.decrypt(row.encrypted_answer, place), place)
        row.save(update_fields=["encrypted_answer"])
