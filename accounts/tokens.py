"""What does a token look like, and is this text one?

`clx_<key id, 12>_<secret, 43><checksum, 6>`, letters and digits only, so that it survives headers, shells
and double clicks. The secret has 256 bits, so that a plain SHA-256 is digest enough (nothing to guess, and no
slow hash per event). Prefix and CRC-32 let scanners know a leaked token without asking us, and let us refuse
most wrong ones without asking the database.
"""

import hashlib
import re
import secrets
import string
import zlib
from dataclasses import dataclass
from typing import NamedTuple

INGEST = "clx"
ACCESS = "cla"
INVITATION = "cli"

_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_PAIRS = tuple(high + low for high in _ALPHABET for low in _ALPHABET)
_KEY_ID = 12
_SECRET = 43  # of 62 characters: 256 bits
_CHECKSUM = 6
_LENGTH = 3 + 1 + _KEY_ID + 1 + _SECRET + _CHECKSUM
_SHAPE = re.compile(rf"(cl[aix])_([0-9A-Za-z]{{{_KEY_ID}}})_[0-9A-Za-z]{{{_SECRET + _CHECKSUM}}}", re.ASCII)


class PresentedToken(NamedTuple):
    """A well-formed token, as far as it may be known: where to look it up, and what to compare there."""

    key_id: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token just made: `text` is shown once and never stored, `hint` says nothing of the secret."""

    text: str
    key_id: str
    digest: bytes
    hint: str


def make() -> NewToken:
    """A fresh token for sending events to an account (`CL-X-TOKEN`)."""
    return _make(INGEST)


def parse(text: str) -> PresentedToken | None:
    """None unless it is a well-formed token for sending events; cheap, and never raises."""
    return _parse(text, INGEST)


def make_access() -> NewToken:
    """A fresh bearer token for the management API."""
    return _make(ACCESS)


def parse_access(text: str) -> PresentedToken | None:
    return _parse(text, ACCESS)


def make_invitation() -> NewToken:
    """A fresh token to set one's first password with."""
    return _make(INVITATION)


def parse_invitation(text: str) -> PresentedToken | None:
    return _parse(text, INVITATION)


def _make(prefix: str) -> NewToken:
    key_id = _random(_KEY_ID)
    body = f"{prefix}_{key_id}_{_random(_SECRET)}"
    text = body + _checksum(body)
    return NewToken(text=text, key_id=key_id, digest=_digest(text), hint=f"{prefix}_{key_id}_...")


def _parse(text: str, prefix: str) -> PresentedToken | None:
    if len(text) != _LENGTH:
        return None
    match = _SHAPE.fullmatch(text)
    if match is None or match[1] != prefix or _checksum(text[:-_CHECKSUM]) != text[-_CHECKSUM:]:
        return None
    return PresentedToken(key_id=match[2], digest=_digest(text))


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _checksum(body: str) -> str:
    """The CRC-32 in base 62, two digits at a time: each event's token is checked."""
    rest, low = divmod(zlib.crc32(body.encode("ascii")), len(_PAIRS))
    high, middle = divmod(rest, len(_PAIRS))
    return _PAIRS[high] + _PAIRS[middle] + _PAIRS[low]


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("ascii")).digest()
