"""How does a receiver know that a delivery is ours? Standard Webhooks 1.0, symmetric (`v1`).

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Sequence

PREFIX = "whsec_"
SHORTEST, LONGEST = 24, 64  # bytes of a key, by the specification


class SecretError(ValueError):
    """Not a signing secret: `whsec_` and 24 to 64 bytes in base64."""


def sign(message_id: str, timestamp: int, body: bytes, keys: Sequence[bytes]) -> str:
    """The value of `webhook-signature`: one `v1,<base64>` per key, the current key first.

    `timestamp` is in Unix seconds. The id has no full stop: it delimits the signed text.
    """
    signed = b"%s.%d.%s" % (message_id.encode(), timestamp, body)
    return " ".join(
        "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode() for key in keys
    )


def make_secret() -> str:
    return format_secret(secrets.token_bytes(32))


def format_secret(key: bytes) -> str:
    return PREFIX + base64.b64encode(key).decode()


def parse_secret(text: str) -> bytes:
    """The key in a `whsec_...` secret; padding may be missing. Raises SecretError."""
    encoded = text.removeprefix(PREFIX)
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise SecretError("The secret is not base64.") from None
    if not text.startswith(PREFIX) or not SHORTEST <= len(key) <= LONGEST:
        raise SecretError(f"A secret is {PREFIX} and {SHORTEST} to {LONGEST} bytes in base64.")
    return key
