"""Where can people read about the API? Swagger UI and ReDoc, whose scripts are served by us alone."""

from typing import Any

from drf_spectacular.views import SpectacularAPIView, SpectacularRedocView, SpectacularSwaggerSplitView
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

# Redoc shows a logo of its maker's server: this is what keeps it, and anything else, from being asked for.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "font-src 'self' data:; connect-src 'self'; worker-src blob:; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'none'"
)


class Document(SpectacularAPIView):
    authentication_classes = []
    permission_classes = [AllowAny]


class _Page:
    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        answered: Response = super().finalize_response(request, response, *args, **kwargs)  # type: ignore[misc] # a mixin
        answered.headers["Content-Security-Policy"] = POLICY
        return answered


class Swagger(_Page, SpectacularSwaggerSplitView):
    authentication_classes = []
    permission_classes = [AllowAny]


class Redoc(_Page, SpectacularRedocView):
    authentication_classes = []
    permission_classes = [AllowAny]
