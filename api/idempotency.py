"""When is a POST the same as one before? When its `Idempotency-Key` is, for the same user.

(draft-ietf-httpapi-idempotency-key-header; what is kept and for how long: `accounts.operations.idempotency`.)
"""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING
from uuid import UUID

import orjson
from django.utils.crypto import salted_hmac
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.operations import idempotency
from accounts.operations.idempotency import Answer
from api.formats import Json

if TYPE_CHECKING:
    from accounts.models import User

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
KEPT_HEADERS = ("ETag",)
_KEY = re.compile(r"[!-~]{1,255}", re.ASCII)


def key(request: Request) -> str | None:
    """As the draft has it, in quotes, or as everybody sends it, without. Raises ValidationError."""
    sent = request.headers.get(HEADER)
    if sent is None:
        return None
    text = sent.strip()
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1]
    if not _KEY.fullmatch(text):
        raise ValidationError({HEADER: ["From 1 to 255 visible ASCII characters."]})
    return text


def once(
    *, user: "User", key: str, request: Request, account_id: UUID | None, ask: Callable[[], Response]
) -> Response:
    """What `ask` answers, or what it answered to the first request with this key."""
    answer = idempotency.once(
        actor=user, key=key, request_digest=_digest(request), account_id=account_id, run=lambda: _kept(ask())
    )
    headers = {**answer.headers, **({REPLAYED: "true"} if answer.replayed else {})}
    return Response(orjson.Fragment(answer.body), answer.status, headers=headers)


def _kept(response: Response) -> Answer:
    headers = {name: response.headers[name] for name in KEPT_HEADERS if name in response.headers}
    return Answer(response.status_code, headers, Json().render(response.data))


def _digest(request: Request) -> bytes:
    """Keyed: a body may hold a secret that is easily guessed."""
    head = f"{request.method} {request.get_full_path()}\n".encode()
    return salted_hmac(HEADER, head + request.body, algorithm="sha256").digest()
