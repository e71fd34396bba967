from django.db import migrations, models

# The log is a projection: one partition a version, so that a rebuild fills a new one beside the live one.
TABLES = """
CREATE TABLE delivery_log (
    version         int         NOT NULL,
    account_id      uuid        NOT NULL,
    delivery_id     uuid        NOT NULL,
    event_id        uuid        NOT NULL,
    client_event_id text        NOT NULL COLLATE "C",
    destination_id  uuid        NOT NULL,
    received_at     timestamptz NOT NULL,
    processed_at    timestamptz,
    status          text        NOT NULL COLLATE "C" CHECK (status IN ('pending', 'success', 'failed')),
    attempts        int         NOT NULL,
    reason          text        NOT NULL COLLATE "C",
    response_status int,
    next_attempt_at timestamptz,
    position        bigint      NOT NULL,  -- of the last event that counts in this row
    PRIMARY KEY (version, account_id, delivery_id)
) PARTITION BY LIST (version);
CREATE INDEX delivery_log_newest ON delivery_log (account_id, received_at DESC, delivery_id DESC);
CREATE INDEX delivery_log_by_destination ON delivery_log (account_id, destination_id, received_at DESC, delivery_id DESC);
CREATE INDEX delivery_log_by_client_event ON delivery_log (account_id, client_event_id);
CREATE INDEX delivery_log_by_processed ON delivery_log (account_id, processed_at) WHERE processed_at IS NOT NULL;
-- Nearly all end in success: those are read by delivery_log_newest.
CREATE INDEX delivery_log_unsuccessful ON delivery_log (account_id, status, received_at DESC, delivery_id DESC)
    WHERE status <> 'success';
CREATE TABLE delivery_log_v1 PARTITION OF delivery_log FOR VALUES IN (1);

-- Accounts that were deleted: their rows are hidden at once and go in slices.
CREATE TABLE delivery_log_erased (
    version    int     NOT NULL,
    account_id uuid    NOT NULL,
    swept      boolean NOT NULL DEFAULT false,
    PRIMARY KEY (version, account_id)
);
CREATE INDEX delivery_log_unswept ON delivery_log_erased (account_id) WHERE NOT swept;

INSERT INTO projection (name, active) VALUES ('delivery_log', 1);
INSERT INTO projection_checkpoint (name, version) VALUES ('delivery_log', 1);
"""

UNDO = """
DELETE FROM projection_checkpoint WHERE name = 'delivery_log';
DELETE FROM projection WHERE name = 'delivery_log';
DROP TABLE delivery_log_erased, delivery_log;
"""


class Migration(migrations.Migration):
    initial = True
    dependencies = [("eventstore", "0001_initial")]
    operations = [
        migrations.RunSQL(TABLES, UNDO),
        migrations.CreateModel(
            name="DeliveryLog",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "version",
                        "account_id",
                        "delivery_id",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("version", models.IntegerField()),
                ("account_id", models.UUIDField()),
                ("delivery_id", models.UUIDField()),
                ("event_id", models.UUIDField()),
                ("client_event_id", models.TextField()),
                ("destination_id", models.UUIDField()),
                ("received_at", models.DateTimeField()),
                ("processed_at", models.DateTimeField(null=True)),
                ("status", models.TextField()),
                ("attempts", models.IntegerField()),
                ("reason", models.TextField()),
                ("response_status", models.IntegerField(null=True)),
                ("next_attempt_at", models.DateTimeField(null=True)),
                ("position", models.BigIntegerField()),
            ],
            options={"db_table": "delivery_log", "managed": False},
        ),
        migrations.CreateModel(
            name="Erased",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "version", "account_id", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("version", models.IntegerField()),
                ("account_id", models.UUIDField()),
            ],
            options={"db_table": "delivery_log_erased", "managed": False},
        ),
    ]
