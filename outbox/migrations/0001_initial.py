from django.db import migrations

OUTBOX = """
CREATE TABLE outbox (
    account_id     uuid        NOT NULL,
    delivery_id    uuid        NOT NULL,
    event_id       uuid        NOT NULL,
    destination_id uuid        NOT NULL,
    epoch          int         NOT NULL,
    attempt        int         NOT NULL DEFAULT 0,  -- attempts begun; counts on over resends
    base           int         NOT NULL DEFAULT 0,  -- attempts begun when the current schedule began
    version        int         NOT NULL DEFAULT 0,  -- last version of the delivery's stream
    size           int         NOT NULL,            -- bytes of the payload
    due_at         timestamptz NOT NULL,            -- when to send; for a claimed row, when its lease ends
    fence          bigint      NOT NULL DEFAULT 0,  -- 0: nobody has it
    lapses         smallint    NOT NULL DEFAULT 0,  -- leases that ended without a settle, in a row
    refusals       smallint    NOT NULL DEFAULT 0,  -- attempts that the address guard refused, in a row
    held           boolean     NOT NULL DEFAULT false,
    PRIMARY KEY (account_id, delivery_id)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX outbox_ready ON outbox (due_at) WHERE NOT held;
CREATE INDEX outbox_ready_by_destination ON outbox (destination_id, due_at) WHERE NOT held;
CREATE INDEX outbox_held_by_destination ON outbox (destination_id, due_at) WHERE held;
CREATE INDEX outbox_suspect ON outbox (due_at) WHERE lapses >= 2;
CREATE SEQUENCE outbox_fence;

CREATE TABLE gate (
    account_id uuid PRIMARY KEY,
    ran_at     timestamptz[] NOT NULL DEFAULT '{}',  -- runs of admitted events in the last second:
    admitted   int[]         NOT NULL DEFAULT '{}',  -- when, and how many
    deleted_at timestamptz
) WITH (fillfactor = 50);

CREATE TABLE lane (
    destination_id  uuid PRIMARY KEY,
    failures        int         NOT NULL DEFAULT 0,  -- in a row
    window_began    timestamptz NOT NULL DEFAULT clock_timestamp(),
    window_attempts int         NOT NULL DEFAULT 0,
    window_failed   int         NOT NULL DEFAULT 0,
    resting         boolean     NOT NULL DEFAULT false,  -- the circuit is open
    opened          int         NOT NULL DEFAULT 0,      -- openings and failed probes since it last closed
    probe_at        timestamptz,                         -- when the next probe may go
    probe           uuid,                                -- the delivery that probes
    crowded         boolean     NOT NULL DEFAULT false   -- more rows are ready than the claim should see
) WITH (fillfactor = 50);

CREATE TABLE purge (
    account_id     uuid NOT NULL,
    destination_id uuid NOT NULL,  -- nil: the whole account
    requested_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (account_id, destination_id)
);

CREATE TABLE slot (
    slot        int PRIMARY KEY,
    owner       uuid NOT NULL,
    lease_until timestamptz NOT NULL
) WITH (fillfactor = 50);
"""

class Migration(migrations.Migration):
    initial = True
    dependencies = [("eventstore", "0001_initial"), ("accounts", "0001_initial")]
    operations = [
        migrations.RunSQL(OUTBOX, "DROP TABLE outbox, gate, lane, purge, slot; DROP SEQUENCE outbox_fence"),
    ]
