from django.db import migrations

# A row that every accept updates is a chain of versions that every accept walks, for as long as some old transaction
# keeps vacuum from cleaning up. So the gate is only a lock now, and a run of admitted events is a row of its own that
# nothing updates: the last second is one end of an account's index entries, whatever died before it.
#
# The gate keeps ran_at and admitted, unread: an accept that runs until the SQL code is installed, and a receiver of
# the version before, still write them.
TABLES = """
CREATE TABLE admission (
    account_id uuid        NOT NULL,
    ran_at     timestamptz NOT NULL,
    admitted   int         NOT NULL CHECK (admitted > 0)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX admission_of_account ON admission (account_id, ran_at);
-- True of all rows: the condition keeps the index to those who name it, so that no accept is planned by it.
CREATE INDEX admission_by_age ON admission (ran_at) WHERE admitted > 0;
ALTER TABLE gate RESET (fillfactor);
"""

UNDO = """
ALTER TABLE gate SET (fillfactor = 50);
DROP TABLE admission;
"""


class Migration(migrations.Migration):
    dependencies = [("outbox", "0001_initial")]
    operations = [migrations.RunSQL(TABLES, UNDO)]
