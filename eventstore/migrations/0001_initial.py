from django.db import migrations, models

# Tables without Django's management (ADR: order by blocks): Django's test flush would TRUNCATE them.
TABLES = """
CREATE TABLE event (
    scope          smallint    NOT NULL DEFAULT 0,
    epoch          int         NOT NULL,
    account_id     uuid        NOT NULL,
    stream_id      uuid        NOT NULL,
    version        int         NOT NULL CHECK (version > 0),
    type           text        NOT NULL COLLATE "C",
    data           jsonb       NOT NULL,
    payload_digest bytea,
    xid            xid8        NOT NULL DEFAULT pg_current_xact_id(),
    seq            bigint      NOT NULL GENERATED ALWAYS AS IDENTITY,
    recorded_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (account_id, stream_id, version)
);
-- Not unique: a unique key of a hot table begins with account_id. `verify` finds a double.
CREATE INDEX event_in_commit_order ON event (scope, epoch, xid, seq);

CREATE TABLE event_key (
    account_id uuid NOT NULL,
    client_id  text NOT NULL COLLATE "C",
    event_id   uuid NOT NULL,
    PRIMARY KEY (account_id, client_id)
);

CREATE TABLE payload (
    account_id uuid  NOT NULL,
    event_id   uuid  NOT NULL,
    body       bytea NOT NULL,
    salt       bytea NOT NULL,
    PRIMARY KEY (account_id, event_id)
);

CREATE TABLE event_position (
    scope      smallint NOT NULL,
    position   bigint   NOT NULL,
    block      bigint   NOT NULL,
    account_id uuid     NOT NULL,
    epoch      int      NOT NULL,
    xid        xid8     NOT NULL,
    seq        bigint   NOT NULL,
    leaf       bytea    NOT NULL,
    PRIMARY KEY (scope, position)
);
CREATE INDEX event_position_by_account ON event_position (account_id, position);

CREATE TABLE block (
    scope          smallint    NOT NULL,
    number         bigint      NOT NULL,
    epoch          int         NOT NULL,
    snapshot       pg_snapshot NOT NULL,
    first_position bigint      NOT NULL,
    count          int         NOT NULL CHECK (count > 0),
    root           bytea       NOT NULL,
    previous       bytea       NOT NULL,
    hash           bytea       NOT NULL,
    sealed_at      timestamptz NOT NULL,
    PRIMARY KEY (scope, number)
);

CREATE TABLE history (
    scope             smallint    NOT NULL,
    epoch             int         NOT NULL,
    system_identifier bigint      NOT NULL,
    timeline          int         NOT NULL,
    database          oid         NOT NULL,
    began_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (scope, epoch)
);

CREATE TABLE projection (
    name   text PRIMARY KEY,
    active int  NOT NULL
);

CREATE TABLE projection_checkpoint (
    name    text     NOT NULL,
    version int      NOT NULL,
    scope   smallint NOT NULL DEFAULT 0,
    block   bigint   NOT NULL DEFAULT 0,
    PRIMARY KEY (name, version, scope)
) WITH (fillfactor = 50);
"""

# The function lives in `public`: the schema `pusher` is dropped and made anew, and would take the triggers along.
# ENABLE ALWAYS: they fire under session_replication_role = replica, too.
APPEND_ONLY = """
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% on % is refused: it can only be added to', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END
$$;
""" + "".join(
    f"""
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
ALTER TABLE {table} ENABLE ALWAYS TRIGGER append_only;
"""
    for table in ("event", "event_key", "event_position", "block", "history")
)

FIRST_EPOCH = """
INSERT INTO history (scope, epoch, system_identifier, timeline, database)
SELECT 0, 1, s.system_identifier, ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int, d.oid
  FROM pg_control_system() s, pg_database d
 WHERE d.datname = current_database();
"""

UNDO = """
DROP TABLE projection_checkpoint, projection, history, block, event_position, payload, event_key, event;
DROP FUNCTION refuse_change();
"""


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [
        migrations.RunSQL(TABLES + APPEND_ONLY + FIRST_EPOCH, UNDO),
        migrations.CreateModel(
            name="Projection",
            fields=[
                ("name", models.TextField(primary_key=True, serialize=False)),
                ("active", models.IntegerField()),
            ],
            options={"db_table": "projection", "managed": False},
        ),
    ]
