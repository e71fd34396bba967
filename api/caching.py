"""Which requests may be answered from the cache? Those that only read."""

from collections.abc import Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from accounts import generations


class Reading:
    """A middleware: GET and HEAD begin a reading, which ends with them."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.method not in {"GET", "HEAD"}:
            return self._get_response(request)
        with generations.reading():
            return self._get_response(request)
