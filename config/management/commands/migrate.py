"""Django's `migrate` as the owner of the tables, then the rooms' SQL code and the application's rights."""

from typing import Any

from django.core.management.base import CommandError
from django.core.management.commands import migrate
from django.db import connections

from config import owner, schema

ONE_AT_A_TIME = 0x64617461  # an advisory lock: containers that start together all run `migrate`


class Command(migrate.Command):
    help = "Migrate the tables, install the SQL code, and grant the application's role its rights."

    def handle(self, *args: Any, **options: Any) -> None:
        alias = options["database"]
        application = role(alias)
        with owner.acting(alias) as connection, connection.cursor() as cursor:
            if not options["check_unapplied"] and not options["plan"]:
                cursor.execute("SELECT pg_advisory_lock(%s)", [ONE_AT_A_TIME])
            super().handle(*args, **options)
            # One app's tables, or a plan, are no whole to build views on.
            if not (options["app_label"] or options["plan"] or options["check_unapplied"]):
                self.install(connection.connection, application)

    def install(self, connection: schema.Connection, application: str) -> None:
        try:
            changed = schema.install(connection)
        except schema.SchemaError as error:
            raise CommandError(str(error)) from error
        if changed and self.verbosity:
            self.stdout.write(self.style.MIGRATE_HEADING("Installed the SQL code."))
        if application != connection.info.user:
            schema.grant(connection, application)


def role(alias: str) -> str:
    """The name that the server knows the application by (a URL needn't hold one)."""
    connection = connections[alias]
    connection.ensure_connection()
    return str(connection.connection.info.user)
