"""Which secrets does a destination have, and in which form are they kept?"""

import base64
import json
import secrets
from uuid import UUID

from accounts import encryption
from accounts.encryption import Place

HEADERS = "headers"
SIGNING_SECRET = "signing_secret"  # noqa: S105  # a field's name; the previous one has it too, as it moves there
_SIGNING_SECRET_BYTES = 32

type Headers = tuple[tuple[str, str], ...]


def encrypt_headers(headers: Headers, *, account_id: UUID, destination_id: UUID) -> str:
    return encryption.encrypt(json.dumps(headers).encode(), Place(account_id, destination_id, HEADERS))


def decrypt_headers(stored: str, *, account_id: UUID, destination_id: UUID) -> Headers:
    """Raises encryption.Undecryptable."""
    plain = encryption.decrypt(stored, Place(account_id, destination_id, HEADERS))
    return tuple((name, value) for name, value in json.loads(plain))


def encrypt_signing_secret(secret: bytes, *, account_id: UUID, destination_id: UUID) -> str:
    return encryption.encrypt(secret, Place(account_id, destination_id, SIGNING_SECRET))


def decrypt_signing_secret(stored: str, *, account_id: UUID, destination_id: UUID) -> bytes:
    """Raises encryption.Undecryptable."""
    return encryption.decrypt(stored, Place(account_id, destination_id, SIGNING_SECRET))


def make_signing_secret() -> bytes:
    return secrets.token_bytes(_SIGNING_SECRET_BYTES)


def as_text(signing_secret: bytes) -> str:
    """As its owner sees it, once (Standard Webhooks 1.0)."""
    return "whsec_" + base64.b64encode(signing_secret).decode()
