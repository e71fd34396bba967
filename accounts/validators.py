"""Which values may the fields of accounts, destinations and users have?

Each validator stands on its model's field and may be used by serializers too. The database has a CHECK beside
each, coarser where SQL can't say it; tests compare the two.
"""

import re
import unicodedata
from collections.abc import Mapping
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ValidationError

from accounts.roles import RoleName
from guard import headers as guard_headers
from guard import urls as guard_urls
from guard.addresses import Policy

LONGEST_NAME = 200
LONGEST_EMAIL = 254
LONGEST_PASSWORD = 1024
LONGEST_URL = guard_urls.LONGEST
HTTP_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
TIMEOUT_SECONDS = (1, 30)
MOST_RETRIES = 20
RETRY_SECONDS = (1, 86_400)
HIGHEST_RATE_LIMIT = 1_000_000

# The same text is the CHECK of the database: only what Python and PostgreSQL read alike.
_LABEL = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_ATOM = "[a-z0-9!#$%&'*+/=?^_`{|}~-]+"
EMAIL = rf"^{_ATOM}([.]{_ATOM})*@({_LABEL}[.])+[a-z]([a-z0-9-]{{0,61}}[a-z0-9])$"
WEBSITE = r"^https?://[!-~]+$"

_LONGEST_LOCAL_PART = 64
_HOST = re.compile(rf"({_LABEL}\.)+{_LABEL}", re.ASCII | re.IGNORECASE)
_UNFIT_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})  # control, surrogate, line and paragraph separators


def policy() -> Policy:
    """Which addresses the operator lets destinations have."""
    return Policy(settings.DESTINATION_ALLOW, settings.DESTINATION_IPV6)


def is_fit(text: str) -> bool:
    """Whether it can be stored and shown: no control characters, no lone surrogates."""
    return not any(unicodedata.category(character) in _UNFIT_CATEGORIES for character in text)


def normalise_email(email: str) -> str:
    """Addresses are compared and stored without regard to case."""
    return email.strip().lower() if email.isascii() else email


def validate_name(value: str) -> None:
    if not value.strip():
        raise ValidationError("A name has at least one visible character.")
    if not is_fit(value):
        raise ValidationError("A name has no control characters.")


def validate_email(value: str) -> None:
    email = normalise_email(value)
    if not re.fullmatch(EMAIL, email, re.ASCII) or len(email) > LONGEST_EMAIL:
        raise ValidationError("Enter a valid e-mail address, such as name@example.com.")
    if email.index("@") > _LONGEST_LOCAL_PART:
        raise ValidationError(f"An e-mail address has at most {_LONGEST_LOCAL_PART} characters before the @.")


def validate_website(value: str) -> None:
    """A link for people, shown and never dialled: a private name does no harm, a script would."""
    if not re.fullmatch(WEBSITE, value, re.ASCII) or not _has_web_host(value):
        raise ValidationError("Enter a valid address, such as https://example.com.")


def _has_web_host(value: str) -> bool:
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        return False
    if "@" in parts.netloc or "\\" in value or port == 0:
        return False
    host = parts.hostname or ""
    return bool(_HOST.fullmatch(host)) and not host.rpartition(".")[2].isdecimal()


def validate_url(value: str) -> None:
    try:
        guard_urls.check(value, policy())
    except guard_urls.Refused as refused:
        raise ValidationError(refused.reason) from None


def origin(url: str) -> tuple[str, str, int] | None:
    """Who is spoken to: scheme, host and port. None: it can't be a destination."""
    try:
        read = guard_urls.check(url, policy())
    except guard_urls.Refused:
        return None
    return read.scheme, read.host, read.port


def validate_http_method(value: str) -> None:
    if value not in HTTP_METHODS:
        raise ValidationError(f"Choose one of {', '.join(HTTP_METHODS)}.")


def validate_headers(value: object) -> None:
    """An object of names and values; one message per header that can't be sent."""
    if not isinstance(value, Mapping):
        raise ValidationError("Headers are an object of names and values.")
    try:
        guard_headers.check(value)
    except guard_headers.Refused as refused:
        raise ValidationError([_named(*error) for error in refused.errors.items()]) from None


def _named(name: str, message: str) -> str:
    if not name:
        return message
    shown = name[:64] if is_fit(name) else name[:64].encode("ascii", "backslashreplace").decode()
    return f"{shown}: {message}"


def validate_timeout(value: int) -> None:
    low, high = TIMEOUT_SECONDS
    if not low <= value <= high:
        raise ValidationError(f"A timeout is from {low} to {high} seconds.")


def validate_retry_schedule(value: object) -> None:
    """Up to 20 pauses in seconds; none at all: an event is tried once."""
    low, high = RETRY_SECONDS
    if not isinstance(value, list | tuple) or not all(type(pause) is int for pause in value):
        raise ValidationError("A retry schedule is a list of whole numbers of seconds.")
    if len(value) > MOST_RETRIES:
        raise ValidationError(f"A retry schedule has at most {MOST_RETRIES} pauses.")
    if not all(low <= pause <= high for pause in value):
        raise ValidationError(f"A pause is from {low} to {high} seconds.")


def validate_rate_limit(value: int) -> None:
    if not 1 <= value <= settings.RATE_LIMIT_MAX:
        raise ValidationError(f"A limit is from 1 to {settings.RATE_LIMIT_MAX} requests per second.")


def validate_role(value: str) -> None:
    if value not in set(RoleName):
        raise ValidationError(f"Choose one of {', '.join(RoleName)}.")


def validate_password_text(value: str) -> None:
    """Beside Django's own validators, which judge how easily a password is guessed."""
    if len(value) > LONGEST_PASSWORD:
        raise ValidationError(f"A password has at most {LONGEST_PASSWORD} characters.")
    if not is_fit(value):
        raise ValidationError("A password has no control characters.")
