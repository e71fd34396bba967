"""Shut a user out at once, or let them in again: `manage.py user deactivate alice@example.com`."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts import operations


class Command(BaseCommand):
    help = (
        "Deactivate a user: access tokens, sessions and an invitation end at once. Or activate one again, "
        "who then logs in with the password as it was."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("change", choices=["deactivate", "activate"])
        parser.add_argument("email")

    def handle(self, *args: Any, change: str, email: str, **options: Any) -> None:
        operation = operations.activate_user if change == "activate" else operations.deactivate_user
        try:
            is_new = operation(email=email)
        except operations.NotFound:
            raise CommandError("Nobody has this e-mail address.") from None
        self.stdout.write(f"The user is {change}d" + (" now." if is_new else ", and was before."))
