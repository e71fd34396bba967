"""Who is asking? A bearer token, or a browser's session (with CSRF); the database is asked each time."""

from typing import TYPE_CHECKING

from rest_framework import authentication
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied
from rest_framework.request import Request

from accounts import generations, queries
from api.errors import CsrfFailed

if TYPE_CHECKING:
    from accounts.models import User

SCHEME = "bearer"


class Bearer(authentication.BaseAuthentication):
    """`Authorization: Bearer cla_...`. A token that was sent must be valid: no session stands in for it."""

    def authenticate(self, request: Request) -> "tuple[User, str] | None":
        header = request.headers.get("Authorization")
        if header is None:
            return None
        scheme, _, token = header.partition(" ")
        user = queries.user_of_bearer(token.strip()) if scheme.lower() == SCHEME else None
        if user is None:
            raise AuthenticationFailed
        return user, token.strip()

    def authenticate_header(self, _request: Request) -> str:
        return 'Bearer realm="Data Pusher"'


class Session(authentication.SessionAuthentication):
    """Django's session. Its user is read from the database each time, and must be active."""

    def authenticate(self, request: Request) -> "tuple[User, None] | None":
        with generations.past_the_cache():
            return super().authenticate(request)

    def enforce_csrf(self, request: Request) -> None:
        """Django looks for a token in a form, too. What is read whole before stays there for others."""
        _ = request.body
        try:
            super().enforce_csrf(request)
        except PermissionDenied as error:
            raise CsrfFailed(error.detail) from None
