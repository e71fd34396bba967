"""Destinations that misbehave, each in its way, in a process of their own: they may not slow the test down.

python -m tests.outbox.bad_neighbours    says its port, ends with its input, says how many requests it saw
                     ... --good          each answers 200 at once: the same load without the faults
"""

import sys

from tests.delivery import test_destinations_that_misbehave as ways
from tests.receivers import Answer, Receiver

WAYS = {
    "/silent": ways.silent,
    "/byte-by-byte": ways.slowly(ways.HEAD),
    "/endless": ways.endlessly(ways.CHUNKED, ways.chunked(ways.PIECE)),
    "/endless-head": ways.endlessly(ways.HEAD, b"X-A: b\r\n" * 100),
    "/reset": ways.reset,
    "/another-protocol": ways.raw(b"SSH-2.0-OpenSSH_9.9\r\n"),
    "/failing": Answer(500),
    "/silent-too": ways.silent,
}

if __name__ == "__main__":
    with Receiver() as receiver:
        for path, way in WAYS.items():
            receiver.on(path, Answer(200) if "--good" in sys.argv else way)
        print(receiver.port, flush=True)  # noqa: T201
        sys.stdin.read()
        print(len(receiver.seen), flush=True)  # noqa: T201
