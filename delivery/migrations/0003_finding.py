from django.db import migrations

# Each statement by itself, so that readers go on: an index that is built holds up the projector alone.
CHANGES = [
    # A clock that was set back: the log shows the moment of receipt, as the projection does from now on.
    "UPDATE delivery_log SET processed_at = received_at WHERE processed_at < received_at",
    "ALTER TABLE delivery_log DROP CONSTRAINT IF EXISTS delivery_log_processed_after_received",
    """ALTER TABLE delivery_log ADD CONSTRAINT delivery_log_processed_after_received
       CHECK (processed_at >= received_at) NOT VALID""",
    "ALTER TABLE delivery_log VALIDATE CONSTRAINT delivery_log_processed_after_received",
    # Each list is read in order, status by status, so these two answer for all of them: any destination or one, any
    # status or one, any span of receipt, from any row on.
    """CREATE INDEX IF NOT EXISTS delivery_log_by_status
       ON delivery_log (account_id, status, received_at DESC, delivery_id DESC)""",
    """CREATE INDEX IF NOT EXISTS delivery_log_by_destination_and_status
       ON delivery_log (account_id, destination_id, status, received_at DESC, delivery_id DESC)""",
    # Found by when they were tried, while any number wait for their first attempt. Few are tried twice.
    """CREATE INDEX IF NOT EXISTS delivery_log_tried_again ON delivery_log (account_id, received_at DESC, delivery_id DESC)
       WHERE status = 'pending' AND processed_at IS NOT NULL""",
    "DROP INDEX IF EXISTS delivery_log_newest",
    "DROP INDEX IF EXISTS delivery_log_by_destination",
    "DROP INDEX IF EXISTS delivery_log_unsuccessful",
]

UNDO = [
    "CREATE INDEX delivery_log_newest ON delivery_log (account_id, received_at DESC, delivery_id DESC)",
    """CREATE INDEX delivery_log_by_destination
       ON delivery_log (account_id, destination_id, received_at DESC, delivery_id DESC)""",
    """CREATE INDEX delivery_log_unsuccessful ON delivery_log (account_id, status, received_at DESC, delivery_id DESC)
       WHERE status <> 'success'""",
    "DROP INDEX delivery_log_tried_again",
    "DROP INDEX delivery_log_by_status",
    "DROP INDEX delivery_log_by_destination_and_status",
    "ALTER TABLE delivery_log DROP CONSTRAINT delivery_log_processed_after_received",
]


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("delivery", "0002_totals")]
    operations = [migrations.RunSQL(CHANGES, UNDO)]
