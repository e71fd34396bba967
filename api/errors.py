"""Which exception is which problem? One table, for every door of the management API.

A view raises, or lets its one domain call raise; nobody answers an error by hand.
"""

import itertools
import logging
import math
from collections.abc import Iterator, Mapping
from typing import Any

from django.core import exceptions as django
from django.db import DataError, InterfaceError, OperationalError
from django.http import Http404, HttpRequest, JsonResponse
from rest_framework import exceptions as rest
from rest_framework.response import Response
from rest_framework.views import set_rollback

from accounts import operations
from accounts.operations import idempotency
from api import problems
from api.problems import Problem
from delivery.queries import NoSuchDeliveryError
from eventstore import history
from outbox import requests

log = logging.getLogger(__name__)

FORM_ERRORS = "non_field_errors"
MOST_ERRORS = 100
LONGEST_TEXT = 300


class TooLarge(rest.APIException):
    """The body is larger than we read."""

    status_code = 413
    default_detail = problems.TOO_LARGE.title


class CsrfFailed(rest.PermissionDenied):
    """A browser's write has no CSRF token, or not the right one."""


class NoLength(rest.APIException):
    """The body came without its length."""

    status_code = 411
    default_detail = problems.NO_LENGTH.detail


# The first row that fits decides, so the special stand before the general.
TABLE: tuple[tuple[type[Exception] | tuple[type[Exception], ...], Problem], ...] = (
    (
        (rest.ValidationError, django.ValidationError, operations.Invalid, operations.EmailTaken),
        problems.INVALID,
    ),
    (rest.ParseError, problems.MALFORMED),
    (operations.Busy, problems.BUSY),
    (operations.WrongCredentials, problems.WRONG_CREDENTIALS),
    ((rest.NotAuthenticated, rest.AuthenticationFailed), problems.UNAUTHENTICATED),
    (operations.OwnRole, problems.OWN_ROLE),
    (CsrfFailed, problems.CSRF),
    ((rest.PermissionDenied, django.PermissionDenied, operations.NotAllowed), problems.FORBIDDEN),
    ((rest.NotFound, Http404, operations.NotFound, NoSuchDeliveryError), problems.NOT_FOUND),
    (operations.AlreadyMember, problems.ALREADY_MEMBER),
    (operations.LastAdmin, problems.LAST_ADMIN),
    (operations.TooManyTokens, problems.TOO_MANY_TOKENS),
    (operations.TooManyDestinations, problems.TOO_MANY_DESTINATIONS),
    (requests.DeliveryPending, problems.DELIVERY_PENDING),
    (requests.DestinationInactive, problems.DESTINATION_INACTIVE),
    (requests.DestinationDeleted, problems.DESTINATION_DELETED),
    (requests.PayloadErased, problems.PAYLOAD_ERASED),
    (idempotency.AnswerLost, problems.ANSWER_LOST),
    (idempotency.KeyReused, problems.KEY_REUSED),
    (operations.Stale, problems.STALE),
    (rest.MethodNotAllowed, problems.METHOD),
    (rest.NotAcceptable, problems.NOT_ACCEPTABLE),
    (NoLength, problems.NO_LENGTH),
    ((TooLarge, django.RequestDataTooBig), problems.TOO_LARGE),
    (rest.UnsupportedMediaType, problems.TYPE),
    ((rest.Throttled, operations.TooManyFailures), problems.TOO_MANY),
    (django.BadRequest, problems.MALFORMED),
    (django.SuspiciousOperation, problems.MALFORMED),
    (DataError, problems.MALFORMED),  # a value that no validation foresaw, and PostgreSQL can't hold
    ((OperationalError, InterfaceError), problems.UNAVAILABLE),
)


def handle(error: Exception, context: Mapping[str, Any]) -> Response | None:
    """DRF's exception handler. None: nobody foresaw this; Django logs it and answers by `server_error`."""
    problem = _problem(error)
    if problem is None:
        return None
    if problem is problems.UNAVAILABLE:
        log.warning("the database is away: %s", type(error).__name__)
    set_rollback()
    path = context["request"].path
    document = problem.document(instance=path, detail=_detail(error), errors=_errors(error))
    headers = _headers(error, problem)
    return Response(document, problem.status, headers=headers, content_type=problems.CONTENT_TYPE)


def _problem(error: Exception) -> Problem | None:
    if history.is_restored(error):
        return problems.RESTORED
    return next((problem for kinds, problem in TABLE if isinstance(error, kinds)), None)


_TABLE_KNOWS_BETTER = (  # than DRF's words
    rest.ValidationError,
    rest.NotAuthenticated,
    rest.AuthenticationFailed,
    rest.NotFound,
    rest.UnsupportedMediaType,  # DRF's own, which quotes what was sent
)


def _detail(error: Exception) -> str:
    """Words for people about this one case; "" takes the table's."""
    if type(error) in _TABLE_KNOWS_BETTER:
        return ""
    detail = getattr(error, "detail", "")
    return str(detail) if isinstance(detail, str) else ""


def _errors(error: Exception) -> dict[str, list[str]]:
    """Bounded: names and messages may quote what was sent."""
    found = itertools.islice(_all_errors(error).items(), MOST_ERRORS)
    return {_clip(field): [_clip(message) for message in messages[:MOST_ERRORS]] for field, messages in found}


def _clip(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"


def _all_errors(error: Exception) -> dict[str, list[str]]:
    if isinstance(error, rest.ValidationError):
        return dict(_flat("", error.detail))
    if isinstance(error, operations.Invalid):
        return error.errors
    if isinstance(error, operations.EmailTaken):
        return {"email": ["This address is known already: log in, or accept the invitation."]}
    if isinstance(error, django.ValidationError):
        return {FORM_ERRORS: error.messages}
    return {}


def _flat(path: str, detail: Any) -> Iterator[tuple[str, list[str]]]:
    """Nested errors by dotted paths: `headers.X-Name`, `retry_schedule_seconds.3`."""
    if isinstance(detail, Mapping):
        for field, inner in detail.items():
            own = path if str(field) in {FORM_ERRORS, ""} and path else str(field)
            yield from _flat(f"{path}.{field}" if path and own != path else own, inner)
    elif isinstance(detail, list) and any(isinstance(inner, Mapping | list) for inner in detail):
        for number, inner in enumerate(detail):
            yield from _flat(f"{path}.{number}" if path else str(number), inner)
    else:
        messages = detail if isinstance(detail, list) else [detail]
        yield path or FORM_ERRORS, [str(message) for message in messages]


def _headers(error: Exception, problem: Problem) -> dict[str, str]:
    headers: dict[str, str] = {}
    if problem.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="Data Pusher"'
    if isinstance(error, rest.Throttled):
        headers["Retry-After"] = str(max(1, math.ceil(getattr(error, "wait", None) or 1)))
    if isinstance(error, operations.TooManyFailures):
        headers["Retry-After"] = str(error.wait_seconds)
    if problem.status == 503:
        headers["Retry-After"] = "1"
    return headers


# --- Django's own handlers (config.urls): what fails beside DRF is no HTML either --------------------------


def bad_request(request: HttpRequest, exception: Exception) -> JsonResponse:
    return answer(request, _problem(exception) or problems.MALFORMED)


def permission_denied(request: HttpRequest, exception: Exception) -> JsonResponse:
    return answer(request, _problem(exception) or problems.FORBIDDEN)


def csrf_failure(request: HttpRequest, reason: str = "") -> JsonResponse:
    """`CSRF_FAILURE_VIEW`."""
    return answer(request, problems.CSRF, detail=reason)


def not_found(request: HttpRequest, exception: Exception) -> JsonResponse:
    return answer(request, _problem(exception) or problems.NOT_FOUND)


def server_error(request: HttpRequest) -> JsonResponse:
    return answer(request, problems.INTERNAL)


def answer(request: HttpRequest, problem: Problem, *, detail: str = "") -> JsonResponse:
    document = problem.document(instance=request.path, detail=detail)
    headers = {"Cache-Control": "no-store"}
    return JsonResponse(document, status=problem.status, content_type=problems.CONTENT_TYPE, headers=headers)
