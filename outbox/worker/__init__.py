"""What does a worker do? It drains the outbox through one slot, for a time or until told to stop."""

import uvloop

from outbox.worker.loop import Drain, Ending, HandOver

__all__ = ["Ending", "drain"]


def drain(*, slot: int, seconds: float, hand_over: HandOver) -> Ending:
    """Blocks for about `seconds`; ends at once when the slot is another's.

    `hand_over` is called when the slot is free again. Raises psycopg.OperationalError when there is no
    database to begin with.
    """

    async def run() -> Ending:
        return await Drain(slot=slot, seconds=seconds, hand_over=hand_over).run()

    return uvloop.run(run())
