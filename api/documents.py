"""Where can people read about the API? Swagger UI and ReDoc, whose scripts are served by us alone."""

from collections.abc import Callable, Mapping
from typing import Any

from django.conf import settings
from django.http import JsonResponse
from django.utils.csp import CSP
from django.utils.decorators import method_decorator
from django.views.decorators.csp import csp_override
from drf_spectacular.views import SpectacularAPIView, SpectacularRedocView, SpectacularSwaggerSplitView
from rest_framework.permissions import AllowAny
from rest_framework.request import Request

from api import errors, problems
from api.throttles import Throttled

# Redoc shows a logo of its maker's server: this is what keeps it, and anything else, from being asked for.
POLICY: dict[str, list[str]] = settings.SECURE_CSP | {
    "script-src": [CSP.SELF],
    "style-src": [CSP.SELF, CSP.UNSAFE_INLINE],
    "img-src": [CSP.SELF, "data:"],
    "font-src": [CSP.SELF, "data:"],
    "connect-src": [CSP.SELF],
    "worker-src": ["blob:"],
}


class _Open(Throttled):
    """For everybody, and nobody's session is looked at."""

    authentication_classes = []
    permission_classes = [AllowAny]
    http_method_names = ["get", "head"]

    def get_exception_handler(self) -> Callable[..., Any]:
        return _handle


def _handle(error: Exception, context: Mapping[str, Any]) -> JsonResponse | None:
    """An error is JSON, whatever these views render otherwise."""
    answer = errors.handle(error, context)
    if answer is None:
        return None
    response = JsonResponse(answer.data, status=answer.status_code, content_type=problems.CONTENT_TYPE)
    for name, value in answer.items():
        response.setdefault(name, value)
    return response


class Document(_Open, SpectacularAPIView):
    def _get_version_parameter(self, _request: Request) -> None:
        """There is one. What is asked for would stand in the document, and in a header."""


@method_decorator(csp_override(POLICY), name="dispatch")
class Swagger(_Open, SpectacularSwaggerSplitView):
    pass


@method_decorator(csp_override(POLICY), name="dispatch")
class Redoc(_Open, SpectacularRedocView):
    pass
