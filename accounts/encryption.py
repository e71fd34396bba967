"""How are the secrets kept that we must send out again (destination headers, signing secrets, kept answers)?

By AES-256-GCM, as text: `<key id>.<base64url of nonce and ciphertext>`. The place that a secret belongs to is
associated data, so that a ciphertext that was moved to another row or field opens nothing. The keys are the
operator's (`ENCRYPTION_KEYS`, the current one first) and not derived from SECRET_KEY.
"""

import base64
import binascii
import os
from dataclasses import dataclass
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings

TABLE = "accounts_destination"
ANSWERS = "accounts_keptanswer"
_NONCE = 12


class Undecryptable(Exception):
    """A stored secret can't be read: its key is not among ENCRYPTION_KEYS, or it was changed or moved."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a secret belongs. Ids never change, so neither does this."""

    account_id: UUID
    destination_id: UUID
    field: str

    def as_bytes(self) -> bytes:
        return f"{TABLE}|{self.account_id}|{self.destination_id}|{self.field}".encode()

    def __str__(self) -> str:
        return f"{self.field} of destination {self.destination_id}"


@dataclass(frozen=True, slots=True)
class AnswerPlace:
    """Where an answer is kept that may hold a secret which was shown once."""

    user_id: UUID
    answer_id: UUID

    def as_bytes(self) -> bytes:
        return f"{ANSWERS}|{self.user_id}|{self.answer_id}".encode()

    def __str__(self) -> str:
        return f"kept answer {self.answer_id}"


def encrypt(secret: bytes, place: Place | AnswerPlace) -> str:
    key_id = current_key_id()
    nonce = os.urandom(_NONCE)
    sealed = AESGCM(settings.ENCRYPTION_KEYS[key_id]).encrypt(nonce, secret, place.as_bytes())
    return f"{key_id}.{base64.urlsafe_b64encode(nonce + sealed).decode()}"


def decrypt(stored: str, place: Place | AnswerPlace) -> bytes:
    """Raises Undecryptable."""
    key_id, _, encoded = stored.partition(".")
    key = settings.ENCRYPTION_KEYS.get(key_id)
    if key is None:
        raise Undecryptable(f"no encryption key {key_id[:16]!r}")
    try:
        sealed = base64.b64decode(encoded, altchars=b"-_", validate=True)
        return AESGCM(key).decrypt(sealed[:_NONCE], sealed[_NONCE:], place.as_bytes())
    except (InvalidTag, binascii.Error, ValueError):
        raise Undecryptable(str(place)) from None


def current_key_id() -> str:
    return str(next(iter(settings.ENCRYPTION_KEYS)))


def is_current(stored: str) -> bool:
    return stored.startswith(current_key_id() + ".")
