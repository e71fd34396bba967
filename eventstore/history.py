"""Is this the database that the history was written in? After a restore it isn't: a new epoch must begin.

A dump restored elsewhere and a recovery to a point in time give transaction ids and waiting deliveries
a second life. Appends, seals and sending refuse (SQLSTATE `RESTORED`) until `manage.py after_restore` has
begun a new epoch.
"""

import psycopg
from django.db import connection

from eventstore.events import SCOPE

RESTORED = "DP001"


def begin_epoch() -> int | None:
    """Seal what the old epoch left and begin the next. None: history names this database already.

    Raises RuntimeError outside of `transaction.atomic`: the marks on what may have been sent go with it.
    """
    if not connection.in_atomic_block:
        raise RuntimeError("begin_epoch() belongs inside transaction.atomic")
    with connection.cursor() as cursor:
        cursor.execute("SELECT pusher.begin_epoch(%s::smallint)", [SCOPE])
        row = cursor.fetchone()
    return row[0] if row else None


def is_restored(error: BaseException) -> bool:
    """Does this error (psycopg's, or Django's around it) say that a restore awaits `after_restore`?"""
    cause = error if isinstance(error, psycopg.Error) else error.__cause__
    return isinstance(cause, psycopg.Error) and cause.sqlstate == RESTORED
