"""Which door does a request go through? One ASGI application for one port (ADR "One port").

The receiver, the health checks and the metrics are answered on the event loop; everything else is Django's,
in threads.
"""

import logging
from collections.abc import Mapping
from typing import Any, Protocol

from api import health, metrics, receiver
from api.body import Receive, Send
from config import told

log = logging.getLogger(__name__)


class Runs(Protocol):
    """What lives as long as the process serves: the intake, the metrics."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...


class App(Protocol):
    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send, /) -> None: ...


class Closes(App, Protocol):
    def close(self) -> None: ...


class Measures(App, Runs, Protocol):
    pass


class Doors:
    """Begins the intake with the server, and ends it when the last request has its answer."""

    def __init__(
        self, *, intake: Runs, receiving: App, checking: Closes, measuring: Measures, django: Closes
    ) -> None:
        self._intake = intake
        self._receiving = receiving
        self._checking = checking
        self._measuring = measuring
        self._django = django

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._door(scope["path"])(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)

    def _door(self, path: str) -> App:
        if path in receiver.PATHS:
            return self._receiving
        if path in health.PATHS:
            return self._checking
        return self._measuring if path in metrics.PATHS else self._django

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self._intake.start()
            await self._measuring.start()
        except Exception as error:
            log.exception("the intake did not start")
            await send({"type": "lifespan.startup.failed", "message": told.words(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._intake.stop()
        await self._measuring.stop()
        self._checking.close()
        self._django.close()
        await send({"type": "lifespan.shutdown.complete"})
