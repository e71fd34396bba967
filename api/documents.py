"""Where can people read about the API? Swagger UI and ReDoc, whose scripts are served by us alone."""

import functools
import threading
from collections.abc import Callable, Mapping
from typing import Any

from django.conf import settings
from django.http import HttpResponse, JsonResponse
from django.utils.csp import CSP
from django.utils.decorators import method_decorator
from django.views.decorators.csp import csp_override
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiJsonRenderer, OpenApiYamlRenderer
from drf_spectacular.utils import extend_schema
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
    """Made once in a process, by one thread: that takes long, and what makes it does not bear two at once.

    It is the same for everybody: nothing of the request stands in it.
    """

    @extend_schema(exclude=True)
    def get(self, request: Request) -> HttpResponse:
        renderer = request.accepted_renderer
        kind = renderer.media_type + (f"; charset={renderer.charset}" if renderer.charset else "")
        with _making:
            content = _document(renderer.format)
        name = f"{settings.SPECTACULAR_SETTINGS['TITLE']}.{renderer.format}"
        return HttpResponse(content, kind, headers={"Content-Disposition": f'inline; filename="{name}"'})


_making = threading.Lock()


@functools.cache
def _document(form: str) -> str | bytes:
    made = SchemaGenerator().get_schema(request=None, public=True)
    renderer = OpenApiYamlRenderer() if form == OpenApiYamlRenderer.format else OpenApiJsonRenderer()
    return renderer.render(made, renderer_context={})


@method_decorator(csp_override(POLICY), name="dispatch")
class Swagger(_Open, SpectacularSwaggerSplitView):
    pass


@method_decorator(csp_override(POLICY), name="dispatch")
class Redoc(_Open, SpectacularRedocView):
    pass
