"""Which request was that? Its id, and one line of log for each request to the management API.

The bridge gives the id and writes the line, because it also answers what never reaches Django. Django's side
notes in the request's environment what the line should tell: the route and the user.
"""

import contextvars
import logging
import re
import time
from collections.abc import Callable, MutableMapping
from typing import Any

import structlog
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.functional import LazyObject, empty

from api import callers
from config import logs
from eventstore.identifiers import uuid7

HEADER = b"x-request-id"
ROUTE = "data_pusher.route"
USER = "data_pusher.user"
_SANE = re.compile(rb"[A-Za-z0-9._-]{1,128}")

log = logging.getLogger("api.requests")


class Noting:
    """Django's outermost middleware: what its request was about."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self._get_response(request)
        request.META[ROUTE] = logs.route_of(request)
        request.META[USER] = _user_id(request)
        return response


def _user_id(request: HttpRequest) -> str | None:
    """Of whom the views asked for: the log is no reason to look a session up."""
    user = request.__dict__.get("user")
    if isinstance(user, LazyObject) and user.__dict__.get("_wrapped", empty) is empty:
        return None
    return str(user.pk) if user is not None and user.is_authenticated else None


class Asked:
    """One request under way: its id is in every line that is written within `context`."""

    def __init__(self, scope: MutableMapping[str, Any] | Any) -> None:
        self.id = _given(scope["headers"]) or str(uuid7())
        self.context = contextvars.copy_context()
        self.environ: dict[str, Any] = {"REMOTE_ADDR": (scope.get("client") or ("",))[0]}
        self._method = scope["method"]
        self._began = time.monotonic()
        self.context.run(structlog.contextvars.bind_contextvars, request_id=self.id)

    @property
    def header(self) -> tuple[bytes, bytes]:
        return HEADER, self.id.encode("ascii")

    def answered(self, status: int) -> None:
        if log.isEnabledFor(logging.INFO):
            self.context.run(self._tell, status)

    def _tell(self, status: int) -> None:
        route = self.environ.get(ROUTE, "")
        log.info(
            "%s %s %d",
            _METHODS.get(self._method, "?"),
            route or "-",
            status,
            extra={
                "method": _METHODS.get(self._method, "?"),
                "route": route,
                "status": status,
                "duration_ms": round((time.monotonic() - self._began) * 1000, 1),
                "user_id": self.environ.get(USER),
                "address": callers.address_in(self.environ),
            },
        )


# A method is any word that a client likes to send.
_METHODS = {name: name for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")}


def _given(headers: Any) -> str | None:
    """The client's, where it is one and harmless."""
    found = [value for name, value in headers if name.lower() == HEADER]
    return found[0].decode("ascii") if len(found) == 1 and _SANE.fullmatch(found[0]) else None
