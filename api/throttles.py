"""Does one client ask too often? So many requests in each window, by user, or by address before a log-in.

Counted in the `default` cache: in Redis for all processes and hosts, else each web process counts for itself.
A cache that is away lets everybody in: throttles spread load, they guard no secret. (Log-ins are slowed down
elsewhere, in the database.)
"""

import logging
import time
from typing import Any

from django.conf import settings
from django.core.cache import cache
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

from api import callers
from config.traffic import Rate

QUIET_SECONDS = 60.0

log = logging.getLogger(__name__)


class Throttle(BaseThrottle):
    """Windows are fixed and begin for all at once, so that one atomic step counts and decides."""

    scope: str
    clock = staticmethod(time.time)

    def rate(self) -> Rate | None:
        raise NotImplementedError

    def client(self, request: Request) -> str | None:
        """Who is counted; None: this throttle is not for the request."""
        raise NotImplementedError

    def allow_request(self, request: Request, _view: Any) -> bool:
        rate, client = self.rate(), self.client(request)
        if rate is None or client is None:
            return True
        window, gone = divmod(self.clock(), rate.seconds)
        self._left = rate.seconds - gone
        return _count(f"throttle:{self.scope}:{client}:{window:.0f}", rate.seconds) <= rate.number

    def wait(self) -> float:
        return self._left


class ByUser(Throttle):
    scope = "user"

    def rate(self) -> Rate | None:
        return settings.THROTTLE_USER

    def client(self, request: Request) -> str | None:
        return str(request.user.pk) if request.user.is_authenticated else None


class ByAddress(Throttle):
    scope = "address"

    def rate(self) -> Rate | None:
        return settings.THROTTLE_ANONYMOUS

    def client(self, request: Request) -> str | None:
        if request.user.is_authenticated:
            return None
        return callers.neighbourhood(callers.address_of(request))


CLASSES: list[type[BaseThrottle]] = [ByUser, ByAddress]


class Throttled(APIView):
    """Counts before permissions are looked at, and when nobody was recognised, too: refusals cost as well."""

    throttle_classes = CLASSES

    def perform_authentication(self, request: Request) -> None:
        try:
            super().perform_authentication(request)
        except APIException:
            super().check_throttles(request)  # the request has an anonymous user now
            raise
        super().check_throttles(request)

    def check_throttles(self, request: Request) -> None:
        """Done above."""


_complained = 0.0


def _count(key: str, seconds: int) -> int:
    """How many in this window, with this one."""
    try:
        cache.add(key, 0, timeout=2 * seconds)
        return int(cache.incr(key))
    except Exception as error:  # noqa: BLE001 - whatever the cache's client raises
        _complain(error)
        return 0


def _complain(error: Exception) -> None:
    global _complained  # noqa: PLW0603 - once a minute is a matter of the process
    if time.monotonic() - _complained >= QUIET_SECONDS:
        _complained = time.monotonic()
        log.warning("requests are not counted, the cache is away: %s", error)
