"""How long ago was that? Seconds that go on while the machine sleeps: a lease does not wait for us."""

import time

if hasattr(time, "CLOCK_BOOTTIME"):

    def now() -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

else:  # other systems' monotonic clocks are the best they have

    def now() -> float:
        return time.monotonic()
