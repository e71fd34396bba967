"""How do stored secrets get onto the current encryption key, while the program runs?

Row by row, each written only if it still holds what was read: a destination that is changed meanwhile is
encrypted anew by whoever changes it. No row is locked while it is encrypted, so several runs do no harm.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from django.db import transaction
from django.db.models import Q, QuerySet

from accounts import encryption, vault
from accounts.encryption import Place, Undecryptable
from accounts.models import Destination

FIELDS = {
    "encrypted_headers": vault.HEADERS,
    "encrypted_signing_secret": vault.SIGNING_SECRET,
    "encrypted_previous_signing_secret": vault.SIGNING_SECRET,
}


@dataclass(frozen=True, slots=True)
class Step:
    """One destination: encrypted by the current key now (or by somebody else meanwhile), or `unreadable`."""

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
        rows = list(outdated().filter(pk__gt=after).order_by("pk")[:at_once])
        if not rows:
            return
        for row in rows:
            yield _rotate_one(row)
        after = rows[-1].pk


def _rotate_one(row: Destination) -> Step:
    stored = {field: getattr(row, field) for field in FIELDS}
    try:
        anew = {field: _anew(row, field, text) for field, text in stored.items()}
    except Undecryptable:
        return Step(row.pk, unreadable=True)
    with transaction.atomic():
        # The revision stays: the secrets are the same.
        Destination.objects.filter(pk=row.pk, **stored).update(**anew)
    return Step(row.pk, unreadable=False)


def _anew(row: Destination, field: str, stored: str) -> str:
    if not stored or encryption.is_current(stored):
        return stored
    place = Place(row.account_id, row.pk, FIELDS[field])
    return encryption.encrypt(encryption.decrypt(stored, place), place)
