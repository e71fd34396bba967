"""What happens when several do something at the same moment?"""

import threading
from collections.abc import Callable

from django.db import connection


def at_once(*attempts: Callable[[], object]) -> list[str]:
    """Each attempt in a session of its own, started together; answers what became of each."""
    results = [""] * len(attempts)
    start = threading.Barrier(len(attempts))

    def run(place: int) -> None:
        try:
            start.wait(10)
            attempts[place]()
            results[place] = "done"
        except Exception as error:  # noqa: BLE001 - told in the result
            results[place] = type(error).__name__
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=[place]) for place in range(len(attempts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return results
