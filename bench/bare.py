"""How fast is the web server when it does nothing? The floor of accepting.

granian with the very options of `manage.py web`, in front of an application that reads the body and answers
202 with a head and a body as long as the product's. It tells the event's id back, as the product does, so
that the load generator has the same work.
"""

import contextlib
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from typing import Any

import psutil

from bench.deployment import HOST, ROOT, free_port
from bench.run import Wrong

START_SECONDS = 30.0

type Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
type Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

# As the product's answer: `api.receiver` says what for.
HEADERS = [
    (b"content-type", b"application/json"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"ratelimit-policy", b'"account";q=1000000;w=1'),
    (b"ratelimit", b'"account";r=999999'),
]
ANSWER = (
    b'{"success":true,"message":"Data Received","event":{"id":"01900000-0000-7000-8000-000000000000",'
    b'"event_id":"%b","received_timestamp":"2026-01-01T00:00:00.000000Z","deliveries":1,"duplicate":false}}'
)


async def application(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    event_id = next(value for name, value in scope["headers"] if name == b"cl-x-event-id")
    body = ANSWER % event_id
    headers = [*HEADERS, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 202, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@contextlib.contextmanager
def server(web: psutil.Process, environment: Mapping[str, str]) -> Iterator[str]:
    """The URL of a bare server with the options (and the environment) of the product's own, which runs."""
    port = free_port()
    options = {"config.asgi:application": "bench.bare:application"}
    argv = [options.get(word, word) for word in web.cmdline()]
    argv[argv.index("--port") + 1] = str(port)
    with subprocess.Popen(argv, cwd=ROOT, env=environment, process_group=0) as process:
        try:
            _wait(process, port)
            yield f"http://{HOST}:{port}"
        finally:
            process.terminate()


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    until = time.monotonic() + START_SECONDS
    while not _listens(port):
        if process.poll() is not None or time.monotonic() > until:
            raise Wrong(f"the bare server doesn't start (status {process.returncode})")
        time.sleep(0.02)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
        return True
    return False
