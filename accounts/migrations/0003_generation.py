"""Each committed change of a table that may be cached makes the next generation (ADR "Cached by generation").

At the commit, because the trigger is deferred: the row's lock is the last that a transaction takes, and is held
for the time of one commit. Once in each transaction, however many rows it changed.
"""

from django.db import migrations

TABLES = ("accounts_account", "accounts_destination", "accounts_member", "accounts_role", "accounts_user")

GENERATION = """
CREATE TABLE accounts_generation (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    number   bigint NOT NULL DEFAULT 0,
    xid      xid8
) WITH (fillfactor = 50);
INSERT INTO accounts_generation DEFAULT VALUES;

CREATE FUNCTION accounts_next_generation() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE public.accounts_generation SET number = number + 1, xid = pg_current_xact_id()
     WHERE xid IS DISTINCT FROM pg_current_xact_id();
    RETURN NULL;
END
$$;
"""
TRIGGER = """
CREATE CONSTRAINT TRIGGER {0}_generation AFTER INSERT OR UPDATE OR DELETE ON {0}
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION accounts_next_generation();
CREATE TRIGGER {0}_emptied AFTER TRUNCATE ON {0} EXECUTE FUNCTION accounts_next_generation();
"""
REMOVE = "DROP TRIGGER {0}_generation ON {0}; DROP TRIGGER {0}_emptied ON {0};"


class Migration(migrations.Migration):
    dependencies = [("accounts", "0002_roles")]
    operations = [
        migrations.RunSQL(GENERATION, "DROP FUNCTION accounts_next_generation(); DROP TABLE accounts_generation"),
        migrations.RunSQL("".join(map(TRIGGER.format, TABLES)), "".join(map(REMOVE.format, TABLES))),
    ]
