"""Which headers may a destination be given, and which of them are secret?"""

import re
from collections.abc import Mapping

MOST = 20
MOST_BYTES = 16 * 1024

# They frame the message, steer proxies, or are ours; metadata services open to some of them.
RESERVED_NAMES = frozenset(
    (
        "host", "content-length", "transfer-encoding", "te", "trailer", "connection", "keep-alive", "upgrade",
        "expect", "forwarded", "cookie",
    )
)  # fmt: skip
RESERVED_PREFIXES = (
    "proxy-", "x-forwarded-", "webhook-", "cl-x-", "sec-", "metadata-", "x-aws-ec2-", "x-goog-",
)  # fmt: skip
SECRET_PARTS = ("authorization", "token", "secret", "key", "password", "cookie")

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)  # RFC 9110, 5.6.2
_VALUE = re.compile(r"[\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?", re.ASCII)


class Refused(Exception):
    """These headers can't be sent; `errors` says what is wrong with each ("" for all of them together)."""

    def __init__(self, errors: dict[str, str]) -> None:
        super().__init__("; ".join(errors.values()))
        self.errors = errors


def check(headers: Mapping[str, str]) -> None:
    """Raises Refused with an error for each header that can't be sent."""
    errors: dict[str, str] = {}
    seen: set[str] = set()
    size = 0
    for name, value in headers.items():
        problem = _problem(name, value)
        if problem is None and name.lower() in seen:
            problem = "This header is there twice."
        if problem is not None:
            errors[str(name)] = problem
            continue
        seen.add(name.lower())
        size += len(name) + len(value)
    if len(headers) > MOST:
        errors[""] = f"There are at most {MOST} headers."
    elif size > MOST_BYTES:
        errors[""] = f"Headers have at most {MOST_BYTES} bytes together."
    if errors:
        raise Refused(errors)


def is_secret(name: str) -> bool:
    """Whether this header's value is stored encrypted and shown masked."""
    lowered = name.lower()
    return any(part in lowered for part in SECRET_PARTS)


def _problem(name: object, value: object) -> str | None:
    if not isinstance(name, str) or not _TOKEN.fullmatch(name):
        return "A header's name has letters, digits and !#$%&'*+-.^_`|~ only."
    lowered = name.lower()
    if lowered in RESERVED_NAMES or lowered.startswith(RESERVED_PREFIXES):
        return "This header is set by us or by the transport."
    if not isinstance(value, str) or not _VALUE.fullmatch(value):
        return "A header's value has visible ASCII characters, with spaces and tabs only inside."
    return None
