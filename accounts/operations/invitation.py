"""How does somebody come in whom an Admin added, and who has no password yet?"""

from datetime import timedelta
from functools import partial

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from accounts import events, letters, passwords, slowdown, tokens
from accounts.letters import Letter
from accounts.models import Account, Invitation, User
from accounts.operations import change
from accounts.operations.change import Invalid
from accounts.operations.user import password_errors

MAIL_PAUSE_SECONDS = 300
"""Between two mails to the same person, so that nobody can be flooded through us."""


class UnknownInvitation(Invalid):
    """No invitation that is good now has this token; expired, used and unknown are told alike."""

    def __init__(self) -> None:
        super().__init__({"token": ["This invitation is not known, or was used, or has expired."]})


def invite(user: User, *, account: Account, actor: User) -> Letter | None:
    """Make and mail an invitation, in place of an earlier one. The caller is in a transaction.

    None: the user has a password, or was deactivated. Never sent: one went out a moment ago, and is good; or
    the actor invited so many lately that it must wait. Anybody may register and add anybody, and we are no
    relay for letters that nobody asked for.
    """
    user = User.objects.select_for_update(no_key=True).get(pk=user.pk)
    if user.has_usable_password() or not user.is_active:
        return None
    if _good().filter(user=user, created_at__gt=Now() - timedelta(seconds=MAIL_PAUSE_SECONDS)).exists():
        return Letter(sent=False)
    if not slowdown.spend(slowdown.BY_INVITER, str(actor.pk)):
        return Letter(sent=False)
    made = tokens.make_invitation()
    Invitation.objects.filter(user=user).delete()
    invitation = Invitation.objects.create(
        user=user, digest=made.digest, expires_at=change.in_seconds(settings.INVITATION_SECONDS)
    )
    events.record_of_user(events.Type.USER_INVITED, user, actor=actor)
    letter = Letter()
    message = letters.invitation(
        account=account.name, email=user.email, token=made.text, expires_at=invitation.expires_at
    )
    # Nobody has the token of a letter that was not sent: without its row the next try may send another.
    take_back = partial(Invitation.objects.filter(pk=invitation.pk).delete)
    letters.post_after_commit(letter, message, on_failure=take_back)
    return letter


def accept_invitation(*, token: str, password: str, address: str = "") -> User:
    """Set the first password; the invitation is used up. `address`: as `slowdown.attempt`.

    Raises UnknownInvitation, Invalid, passwords.Busy and slowdown.TooManyFailures.
    """
    with slowdown.attempt(UnknownInvitation, address=address):
        presented = tokens.parse_invitation(token)
        if presented is None:
            raise UnknownInvitation
        return _accept(presented.digest, password)


def _accept(digest: bytes, password: str) -> User:
    mine = _good().filter(digest=digest)
    invited = User.objects.filter(invitation__in=mine).first()
    if invited is None:
        raise UnknownInvitation
    if errors := password_errors(password, invited):
        raise Invalid({"password": errors})
    hashed = passwords.make(password)  # slow by design, so before the transaction
    with transaction.atomic():
        user = User.objects.select_for_update(no_key=True).get(pk=invited.pk)
        # Two at once: the second waits for the lock and finds nothing to delete.
        if not mine.delete()[0]:
            raise UnknownInvitation
        user.password = hashed
        user.save(actor=user, update_fields=["password"])
        events.record_of_user(events.Type.USER_JOINED, user, actor=user)
    return user


def _good() -> QuerySet[Invitation]:
    return Invitation.objects.filter(expires_at__gt=Now(), user__is_active=True)
