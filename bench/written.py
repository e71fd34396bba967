"""How does one come by a log of millions without sending millions? Its rows are written by one statement.

Also `make scale` asks its questions of such a log (tests/api/test_scale.py).
"""

from datetime import UTC, datetime, timedelta
from hashlib import md5
from typing import Any
from uuid import UUID

import psycopg

BEGAN = datetime(2026, 9, 1, tzinfo=UTC)
WEEKS = timedelta(days=56)

# Nine tenths are one account's. Of its 32 destinations some get many events; 98 refuses all of them, and
# 99 gets nearly none. Ids count up; the first tenth has another prefix, and twenty have a third. Some
# deliveries are late by days. The last fiftieth was never tried.
_LOG = """
INSERT INTO delivery_log_v{version}
SELECT {version},
       CASE WHEN i % 10 = 0 THEN md5('account ' || i % 7919)::uuid ELSE %(account)s END,
       gen_random_uuid(), gen_random_uuid(),
       CASE WHEN i % (%(n)s / 20) = 3 THEN 'refund-' WHEN i <= %(n)s / 10 THEN 'legacy-' ELSE 'order-' END
       || i,
       md5('destination ' || CASE WHEN i % (%(n)s / 20) = 7 THEN 99 WHEN i % 100 = 9 THEN 98
                                  ELSE floor(power(random(), 2) * 30) END)::uuid,
       received,
       CASE WHEN i <= %(n)s - %(n)s / 50 THEN received
            + CASE WHEN i % 200 = 1 THEN random() * interval '20 days' ELSE random() * interval '2 s' END END,
       CASE WHEN i > %(n)s - %(n)s / 50 THEN 'pending'
            WHEN i % 100 IN (9, 11) THEN 'failed' ELSE 'success' END,
       1, '', 200, NULL, i
  FROM (SELECT i::int, %(began)s + i * (%(weeks)s / %(n)s) AS received FROM generate_series(1, %(n)s) i) s
"""


def log(connection: psycopg.Connection[Any], *, version: int, account: UUID | str, count: int) -> None:
    """A version of the log with `count` rows, built as `rebuild_logs` builds: the indexes come last.

    `connection` is the owner's, in autocommit. Readers see it from `show` on.
    """
    table = f"delivery_log_v{version}"
    names = {"account": account, "n": count, "began": BEGAN, "weeks": WEEKS}
    for statement, values in (
        ("SET maintenance_work_mem = '512MB'", None),
        (f"CREATE TABLE {table} (LIKE delivery_log INCLUDING DEFAULTS INCLUDING CONSTRAINTS)", None),
        (_LOG.replace("{version}", str(version)).replace(" % ", " %% "), names),
        (f"ALTER TABLE delivery_log ATTACH PARTITION {table} FOR VALUES IN ({version})", None),
        (f"VACUUM ANALYZE {table}", None),
        ("RESET maintenance_work_mem", None),
    ):
        connection.execute(statement.encode(), values)


def show(connection: psycopg.Connection[Any], *, version: int) -> None:
    """From now on readers see this version of the log."""
    connection.execute("UPDATE projection SET active = %s WHERE name = 'delivery_log'", [version])


def received_at(row: float, *, of: int) -> datetime:
    """When the row was received: the first one at BEGAN, the last one WEEKS later."""
    return BEGAN + row * (WEEKS / of)


def destination(number: int) -> UUID:
    """One of 0 to 29, 98 and 99."""
    return UUID(md5(f"destination {number}".encode(), usedforsecurity=False).hexdigest())
