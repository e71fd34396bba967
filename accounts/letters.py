"""What does the mail say that invites somebody, and did it go out?

It goes out after the commit, so that nobody is invited to what was undone, and a mail server that fails
undoes nothing. It names the account and nobody.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from django.conf import settings
from django.core.mail import EmailMessage
from django.db import transaction

logger = logging.getLogger(__name__)

ACCEPT = "/api/v1/auth/invitations/accept/"
LONGEST_NAME = 80
SUBJECT = "Your invitation to Data Pusher"  # nothing of anybody's: it is a header

_TEXT = """\
You were added to the account "{account}" of Data Pusher.

To join, set a password (at least 8 characters) before {until} UTC:

    curl {url} \\
      -H 'Content-Type: application/json' \\
      -d '{{"token": "{token}", "password": "..."}}'

This works once. Then log in with your e-mail address, {email}, and the password.
If you did not expect this, do nothing: without a password nobody can log in as you.
"""


@dataclass
class Letter:
    """`sent`: None before the commit, then whether the mail server took it."""

    sent: bool | None = None


def post_after_commit(letter: Letter, message: EmailMessage, *, on_failure: Callable[[], object]) -> None:
    transaction.on_commit(partial(_post, letter, message, on_failure), robust=True)


def invitation(*, account: str, email: str, token: str, expires_at: datetime) -> EmailMessage:
    name = account if len(account) <= LONGEST_NAME else account[: LONGEST_NAME - 1] + "…"
    text = _TEXT.format(
        account=name,
        until=expires_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M"),
        url=settings.PUBLIC_URL + ACCEPT,
        token=token,
        email=email,
    )
    return EmailMessage(SUBJECT, text, settings.DEFAULT_FROM_EMAIL, [email])


def _post(letter: Letter, message: EmailMessage, on_failure: Callable[[], object]) -> None:
    try:
        letter.sent = message.send() == 1
    except Exception as error:  # noqa: BLE001 - backends raise what they like, and it may quote the letter
        logger.warning("An invitation could not be mailed: %s", type(error).__name__)
        letter.sent = False
    if not letter.sent:
        on_failure()
