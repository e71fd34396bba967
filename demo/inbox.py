"""What arrived last? A door of the demo's receiver that takes everything, for whoever tries things by hand.

`/inbox/NAME` answers 204 whatever comes; `GET /seen/NAME` shows what came last, as it was sent: enough to
check a signature with one's own code.
"""

from collections import OrderedDict
from typing import Any

from aiohttp import web

MOST_NAMES = 100
LARGEST_SHOWN = 1 << 20


class Inbox:
    """The last request of each of the last names."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, dict[str, Any]] = OrderedDict()

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_route("*", "/inbox/{name}", self.take)
        router.add_get("/seen/{name}", self.show)

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        name = request.match_info["name"]
        self._seen[name] = {
            "method": request.method,
            "target": request.raw_path,
            "headers": {key.lower(): value for key, value in request.headers.items()},
            "body": body.decode("utf-8", "replace") if len(body) <= LARGEST_SHOWN else None,
        }
        self._seen.move_to_end(name)
        while len(self._seen) > MOST_NAMES:
            self._seen.popitem(last=False)
        return web.Response(status=204)

    async def show(self, request: web.Request) -> web.Response:
        try:
            return web.json_response(self._seen[request.match_info["name"]])
        except KeyError:
            return web.json_response({"error": "nothing arrived here yet"}, status=404)
