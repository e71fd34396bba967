"""How does the rooms' SQL code get into the database, and who may do what there?

Data lives in the schema `public` and changes by migrations. Code (functions, views) lives in the schema
`pusher`, which is dropped and made anew from `<room>/sql/*.sql` whenever a file changed: no migration repeats
a function's body. A migration that changes a column which a view shows drops the schema `pusher` first.
"""

import hashlib
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

SCHEMA = "pusher"
ROOMS = ("eventstore", "accounts", "delivery", "outbox")
APPEND_ONLY = ("event", "event_key", "event_position", "block", "history")
READ_ONLY = ("django_migrations",)
LOCK_TIMEOUT = "10s"

type Connection = psycopg.Connection[Any]

_OUTSIDERS = """
    SELECT DISTINCT pg_describe_object(d.classid, d.objid, d.objsubid)
      FROM pg_depend d
      JOIN pg_proc p ON d.refclassid = 'pg_proc'::regclass AND d.refobjid = p.oid
     WHERE p.pronamespace = to_regnamespace(%s) AND d.deptype = 'n'
       AND d.classid IN ('pg_trigger'::regclass, 'pg_attrdef'::regclass, 'pg_constraint'::regclass,
                         'pg_class'::regclass)
"""

_RIGHTS = (
    "GRANT USAGE ON SCHEMA public, {schema} TO {role}",
    "REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM {role}",
    "GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role}",
    "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {schema} TO {role}",
    "GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {role}",
    # Tables and partitions that a command makes between two migrates.
    "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {role}",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT USAGE, SELECT ON SEQUENCES TO {role}",
)


class SchemaError(Exception):
    """The SQL code can't be installed; the message names the file or the object in the way."""


def install(connection: Connection, *, base: Path | None = None) -> bool:
    """Make the schema `pusher` equal to the files, in one transaction. True when something had changed.

    The connection is the owner's. Raises SchemaError, also when a lock isn't free within LOCK_TIMEOUT.
    """
    files = _files(base or Path(__file__).resolve().parent.parent)
    checksum = _checksum(files)
    if _installed(connection) == checksum:
        return False
    try:
        with connection.transaction():
            connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(LOCK_TIMEOUT))
            _drop(connection)
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(SCHEMA)))
            for file in files:
                _create(connection, file)
            connection.execute(
                sql.SQL("COMMENT ON SCHEMA {} IS {}").format(sql.Identifier(SCHEMA), sql.Literal(checksum))
            )
    except psycopg.errors.LockNotAvailable as error:
        raise SchemaError(f"The schema {SCHEMA} is in use for over {LOCK_TIMEOUT}: {error}") from error
    return True


def grant(connection: Connection, role: str) -> None:
    """Give the application's role what it needs and no more: append-only tables it can only add to."""
    name = sql.Identifier(role)
    with connection.transaction():
        connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(LOCK_TIMEOUT))
        _grant_tables(connection, name)
        for statement in _RIGHTS:
            connection.execute(sql.SQL(statement).format(schema=sql.Identifier(SCHEMA), role=name))


def _grant_tables(connection: Connection, role: sql.Identifier) -> None:
    rows = connection.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        " AND relkind IN ('r', 'p', 'v', 'm') AND pg_has_role(relowner, 'MEMBER') ORDER BY relname"
    )
    for (table,) in rows.fetchall():
        rights = {**dict.fromkeys(APPEND_ONLY, "SELECT, INSERT"), **dict.fromkeys(READ_ONLY, "SELECT")}.get(
            table, "SELECT, INSERT, UPDATE, DELETE"
        )
        target = sql.Identifier("public", table)
        connection.execute(sql.SQL("REVOKE ALL ON {} FROM {}").format(target, role))
        connection.execute(sql.SQL("GRANT " + rights + " ON {} TO {}").format(target, role))


def _files(base: Path) -> list[Path]:
    return [file for room in ROOMS for file in sorted((base / room / "sql").glob("*.sql"))]


def _checksum(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.parent.parent.name}/{file.name}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()


def _installed(connection: Connection) -> str | None:
    row = connection.execute(
        "SELECT obj_description(to_regnamespace(%s)::oid, 'pg_namespace')", [SCHEMA]
    ).fetchone()
    return row[0] if row else None


def _drop(connection: Connection) -> None:
    # CASCADE would silently take an append-only trigger along, should its function ever move in here.
    outsiders = [row[0] for row in connection.execute(_OUTSIDERS, [SCHEMA]).fetchall()]
    if outsiders:
        raise SchemaError(
            f"Code in {SCHEMA} is used by {', '.join(outsiders)}: put it into public by a migration"
        )
    connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(SCHEMA)))


def _create(connection: Connection, file: Path) -> None:
    try:
        connection.execute(file.read_bytes())
    except psycopg.errors.LockNotAvailable:
        raise
    except psycopg.Error as error:
        raise SchemaError(f"{file.parent.parent.name}/sql/{file.name}: {error}") from error
