"""How do we name things? By UUIDv7 (RFC 9562): ordered by time, so that an index grows at its end."""

import os
import threading
import time
from uuid import UUID

_COUNTER_BITS = (
    42  # RFC 9562, method 1: a counter after the milliseconds, seeded at random with its top bit clear
)
_lock = threading.Lock()
_last_millisecond = 0
_counter = 0
_tail = 0


def uuid7() -> UUID:
    """A fresh UUIDv7, greater than every earlier one of this process, even when the clock steps back."""
    millisecond, counter, tail = _tick()
    value = (millisecond & 0xFFFF_FFFF_FFFF) << 80
    value |= (counter >> 30) << 64 | (counter & 0x3FFF_FFFF) << 32 | tail
    return UUID(int=value & ~(0xF000 << 64) & ~(0xC000 << 48) | 0x7000 << 64 | 0x8000 << 48)


def _tick() -> tuple[int, int, int]:
    """Milliseconds, counter, and 32 random bits: drawn once a millisecond, since the counter tells them apart
    within the process, and a system call for each id costs more than the rest of it."""
    global _last_millisecond, _counter, _tail  # noqa: PLW0603 - one clock per process, under the lock
    with _lock:
        now = time.time_ns() // 1_000_000
        if now > _last_millisecond:
            seed = os.urandom(10)
            _last_millisecond, _counter = now, int.from_bytes(seed[:6]) >> 7
            _tail = int.from_bytes(seed[6:])
        else:
            _counter += 1
            if _counter >> _COUNTER_BITS:
                _last_millisecond, _counter = _last_millisecond + 1, 0
        return _last_millisecond, _counter, _tail
