"""Is this really from Data Pusher? What a receiver does, after Standard Webhooks 1.0 (standardwebhooks.com).

Written after the specification alone, apart from the code that signs, as any receiver would: short enough to
be copied. What is signed is the body, or for a GET the query string as it stands in the request line.
"""

import base64
import binascii
import hmac
from collections.abc import Mapping
from enum import StrEnum

TOLERANCE_SECONDS = 300


class Verdict(StrEnum):
    VALID = "signature valid"
    MISSING = "NOT SIGNED"
    OLD = "SIGNATURE OLD"
    WRONG = "SIGNATURE WRONG"


def check(secret: str, headers: Mapping[str, str], content: bytes, *, now: float) -> Verdict:
    """`secret`: as it was shown, `whsec_...`; `headers`: any mapping that finds lower-case names."""
    sender_id, sent, signatures = (
        headers.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature")
    )
    if not (sender_id and sent and signatures):
        return Verdict.MISSING
    if not (sent.isascii() and sent.isdecimal()) or abs(now - int(sent)) > TOLERANCE_SECONDS:
        return Verdict.OLD
    key = base64.b64decode(secret.removeprefix("whsec_"))
    expected = hmac.digest(key, f"{sender_id}.{sent}.".encode() + content, "sha256")
    presented = (_decoded(part.removeprefix("v1,")) for part in signatures.split() if part.startswith("v1,"))
    # Several: during a rotation the old secret signs beside the new one.
    return Verdict.VALID if any(hmac.compare_digest(expected, one) for one in presented) else Verdict.WRONG


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
