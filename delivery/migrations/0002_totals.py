from django.db import migrations, models

# A few rows for the whole history. A changed way of counting is a new version: another checkpoint from block 0 on.
TABLES = """
CREATE TABLE delivery_total (
    version int     NOT NULL,
    type    text    NOT NULL COLLATE "C",
    reason  text    NOT NULL COLLATE "C",
    attempt boolean NOT NULL,
    number  bigint  NOT NULL,
    PRIMARY KEY (version, type, reason, attempt)
) WITH (fillfactor = 50);
INSERT INTO projection (name, active) VALUES ('delivery_total', 1);
INSERT INTO projection_checkpoint (name, version) VALUES ('delivery_total', 1);
"""

UNDO = """
DELETE FROM projection_checkpoint WHERE name = 'delivery_total';
DELETE FROM projection WHERE name = 'delivery_total';
DROP TABLE delivery_total;
"""


class Migration(migrations.Migration):
    dependencies = [("delivery", "0001_initial")]
    operations = [
        migrations.RunSQL(TABLES, UNDO),
        migrations.CreateModel(
            name="Total",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "version",
                        "type",
                        "reason",
                        "attempt",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("version", models.IntegerField()),
                ("type", models.TextField()),
                ("reason", models.TextField()),
                ("attempt", models.BooleanField()),
                ("number", models.BigIntegerField()),
            ],
            options={"db_table": "delivery_total", "managed": False},
        ),
    ]
