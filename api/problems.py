"""What does an error look like? RFC 9457 with the product's own `success`, `message` and `errors` (API.md).

Plain: the ASGI doors in front of Django answer with it, too. Which exception is which problem: `api.errors`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CONTENT_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:data-pusher:problem:"


@dataclass(frozen=True, slots=True)
class Problem:
    """One kind of error: `slug` is what a program may test for, it never changes."""

    status: int
    slug: str
    title: str
    message: str = "Invalid Data"
    detail: str = ""

    def document(
        self, *, instance: str, detail: str = "", errors: Mapping[str, Sequence[str]] | None = None
    ) -> dict[str, Any]:
        """The body of the answer. `instance` is the path that was asked for."""
        return {
            "type": TYPE_PREFIX + self.slug,
            "title": self.title,
            "status": self.status,
            "detail": detail or self.detail or f"{self.title}.",
            "instance": instance,
            "success": False,
            "message": self.message,
            "errors": {field: list(messages) for field, messages in (errors or {}).items()},
        }


INVALID = Problem(400, "invalid-data", "Some of the data is not valid", detail="See errors, field by field.")
MALFORMED = Problem(400, "malformed-request", "The request can't be read")
UNAUTHENTICATED = Problem(
    401, "unauthenticated", "Valid credentials are needed", "Unauthenticated", "Log in and send the token."
)
WRONG_CREDENTIALS = Problem(
    401, "wrong-credentials", "E-mail or password is wrong", "Unauthenticated", "Nobody has both of them."
)
FORBIDDEN = Problem(403, "forbidden", "Your role does not allow this", "Forbidden")
OWN_ROLE = Problem(403, "own-role", "Nobody changes their own role", "Forbidden")
CSRF = Problem(
    403,
    "csrf-failed",
    "A session writes with its CSRF token",
    "Forbidden",
    "Send what the cookie csrftoken holds in the header X-CSRFToken.",
)
NOT_FOUND = Problem(
    404, "not-found", "There is nothing here", "Not Found", "It does not exist, or is not yours."
)
METHOD = Problem(405, "method-not-allowed", "This method is not allowed here")
NOT_ACCEPTABLE = Problem(406, "not-acceptable", "It isn't there in a form that Accept allows")
TOO_SLOW = Problem(408, "request-timeout", "The body did not arrive in time")
CONFLICT = Problem(409, "conflict", "This collides with the present state", "Conflict")
ALREADY_MEMBER = Problem(409, "already-member", "This user is a member of the account", "Conflict")
LAST_ADMIN = Problem(
    409, "last-admin", "An account keeps at least one Admin", "Conflict", "Make somebody else an Admin first."
)
TOO_MANY_TOKENS = Problem(
    409,
    "too-many-tokens",
    "Too many earlier tokens are still valid",
    "Conflict",
    "Rotate without an overlap.",
)
TOO_MANY_DESTINATIONS = Problem(
    409, "too-many-destinations", "The account has as many destinations as it may", "Conflict"
)
DELIVERY_PENDING = Problem(
    409,
    "delivery-pending",
    "The delivery is pending",
    "Conflict",
    "It is being sent or waits for its next attempt: it will end by itself.",
)
DESTINATION_INACTIVE = Problem(
    409,
    "destination-inactive",
    "The destination is inactive",
    "Conflict",
    "Nothing is sent to it; make it active first.",
)
DESTINATION_DELETED = Problem(
    409,
    "destination-deleted",
    "The delivery's destination was deleted",
    "Conflict",
    "It can't be sent again.",
)
PAYLOAD_ERASED = Problem(
    409, "payload-erased", "The event's content was erased", "Conflict", "There is nothing left to send."
)
ANSWER_LOST = Problem(
    409,
    "answer-lost",
    "This was done, but its answer can't be read any more",
    "Conflict",
    "Read the resource to see what came of it; a new Idempotency-Key would do it again.",
)
NO_LENGTH = Problem(
    411, "length-required", "Content-Length is needed", detail="Send the body with its length, not in chunks."
)
STALE = Problem(
    412, "stale", "It was changed since you read it", detail="Read it again, then repeat the change."
)
TOO_LARGE = Problem(413, "content-too-large", "The body is too large")
TYPE = Problem(415, "unsupported-media-type", "Only application/json in utf-8 is read here")
KEY_REUSED = Problem(
    422,
    "idempotency-key-reused",
    "This Idempotency-Key was used for another request",
    detail="Use a new key for each request, and the same only to repeat it.",
)
TOO_MANY = Problem(429, "too-many-requests", "Too many requests", "Too Many Requests")
INTERNAL = Problem(500, "internal-error", "Something failed on our side", "Internal Error", "It is logged.")
UNAVAILABLE = Problem(
    503, "unavailable", "The database is away", "Unavailable", "Nothing was lost; try again in a moment."
)
RESTORED = Problem(
    503,
    "restore-unacknowledged",
    "A restore waits to be acknowledged",
    "Unavailable",
    "Nothing is changed until an operator has done so.",
)
BUSY = Problem(503, "busy", "Too many are logging in or registering", "Unavailable", "Try again in a moment.")
ALL = tuple(value for value in list(globals().values()) if isinstance(value, Problem))
