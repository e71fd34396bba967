"""How do people come and go: register, log in and out, change passwords, are shut out and let in again?"""

from typing import NamedTuple

from django.contrib.auth import password_validation
from django.contrib.sessions.models import Session
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models.functions import Now

from accounts import events, passwords, slowdown, tokens, validators
from accounts.models import AccessToken, Invitation, User
from accounts.operations import change
from accounts.operations.change import Invalid
from accounts.queries import NotFound

ACCESS_SECONDS = 7 * 24 * 3600


class EmailTaken(Exception):
    """A user with this e-mail address is known already, registered or invited."""


class WrongCredentials(Exception):
    """No active user has this e-mail address and password; which of them is wrong isn't said."""


class WrongPassword(Invalid):
    """The present password is another one."""

    def __init__(self) -> None:
        super().__init__({"current_password": ["This is not your present password."]})


class LoggedIn(NamedTuple):
    """`access_token` is shown once."""

    access_token: str
    user: User


def register_user(*, email: str, password: str) -> User:
    """Raises Invalid, passwords.Busy and EmailTaken."""
    user = User(email=validators.normalise_email(email), registered=True)
    errors = password_errors(password, user)
    change.check(user, ["email"], {"password": errors} if errors else {})
    user.password = passwords.make(password)  # slow by design, so before the transaction
    # After the hash, so that the time tells nothing. Before the INSERT, because a server may log a statement
    # that fails, and this one has the hash in it; two sessions at once may still come to that.
    if User.objects.filter(email=user.email).exists():
        raise EmailTaken
    with transaction.atomic():
        insert_user(user, creator=user)
        events.record_of_user(events.Type.USER_REGISTERED, user, actor=user)
    return user


def insert_user(user: User, *, creator: User) -> None:
    """Raises EmailTaken, also when another session was faster by a moment."""
    try:
        with transaction.atomic():
            user.save(actor=creator, force_insert=True)
    except IntegrityError as error:
        if User.objects.filter(email=user.email).exists():
            raise EmailTaken from error
        raise


def log_in(*, email: str, password: str, address: str = "") -> LoggedIn:
    """`address`: as `slowdown.attempt`.

    Raises passwords.Busy, slowdown.TooManyFailures, and WrongCredentials: in like time, whoever it is and
    whatever is wrong.
    """
    with slowdown.attempt(WrongCredentials, email=email, address=address):
        checked, renewed = _check(email, password)
        with transaction.atomic():
            user = _let_in(checked, renewed)
            AccessToken.objects.filter(user=user, expires_at__lte=Now()).delete()
            token = tokens.make_access()
            AccessToken.objects.create(
                user=user, digest=token.digest, expires_at=change.in_seconds(ACCESS_SECONDS)
            )
    return LoggedIn(token.text, user)


def open_session(*, email: str, password: str, address: str = "") -> User:
    """Log in for a browser's session, which needs no access token. Raises as `log_in`."""
    with slowdown.attempt(WrongCredentials, email=email, address=address):
        checked, renewed = _check(email, password)
        with transaction.atomic():
            return _let_in(checked, renewed)


@transaction.atomic
def log_out(*, access_token: str) -> None:
    """End this access token at once; one that isn't valid has ended already."""
    presented = tokens.parse_access(access_token)
    if presented is None:
        return
    found = User.objects.select_for_update(no_key=True, of=["self"])
    user = found.filter(access_tokens__digest=presented.digest).first()
    # Two log-outs at once: the second waits for the lock and finds nothing to delete.
    if user is None or not AccessToken.objects.filter(digest=presented.digest).delete()[0]:
        return
    events.record_of_user(events.Type.USER_LOGGED_OUT, user, actor=user)


@transaction.atomic
def close_session(user: User, *, session_key: str) -> None:
    """End this session of a browser at once; one that isn't there has ended already."""
    User.objects.select_for_update(no_key=True).get(pk=user.pk)
    if Session.objects.filter(session_key=session_key).delete()[0]:
        events.record_of_user(events.Type.USER_LOGGED_OUT, user, actor=user)


def change_password(*, actor: User, current_password: str, new_password: str, address: str = "") -> None:
    """All access tokens and sessions of the actor end at once. `address`: as `slowdown.attempt`.

    Raises Invalid, WrongPassword, passwords.Busy and slowdown.TooManyFailures.
    """
    if errors := password_errors(new_password, actor):
        raise Invalid({"new_password": errors})
    with slowdown.attempt(WrongPassword, email=actor.email, address=address):
        if not passwords.verify(current_password, actor.password).right:
            raise WrongPassword
        hashed = passwords.make(new_password)
        with transaction.atomic():
            user = User.objects.select_for_update(no_key=True).get(pk=actor.pk)
            if not user.is_active or user.password != actor.password:  # changed while we hashed
                raise WrongPassword
            user.password = hashed  # sessions go by it
            user.save(actor=actor, update_fields=["password"])
            AccessToken.objects.filter(user=user).delete()
            events.record_of_user(events.Type.USER_PASSWORD_CHANGED, user, actor=actor)


@transaction.atomic
def deactivate_user(*, email: str) -> bool:
    """By an operator: the user is out at once. False: they were so before. Raises NotFound."""
    user = _locked(email)
    if not user.is_active:
        return False
    user.is_active = False
    user.session_epoch += 1  # sessions begun until now stay ended when the user comes back
    user.save(actor=None, update_fields=["is_active", "session_epoch"])
    AccessToken.objects.filter(user=user).delete()
    Invitation.objects.filter(user=user).delete()
    events.record_of_user(events.Type.USER_DEACTIVATED, user, actor=None)
    return True


@transaction.atomic
def activate_user(*, email: str) -> bool:
    """By an operator: the user may log in again. False: they might already. Raises NotFound."""
    user = _locked(email)
    if user.is_active:
        return False
    user.is_active = True
    user.save(actor=None, update_fields=["is_active"])
    events.record_of_user(events.Type.USER_ACTIVATED, user, actor=None)
    return True


def _locked(email: str) -> User:
    users = User.objects.select_for_update(no_key=True)
    user = users.filter(email=validators.normalise_email(email)).first()
    if user is None:
        raise NotFound
    return user


def _check(email: str, password: str) -> tuple[User, str | None]:
    """The user, and a new hash if the stored one is out of date. Hashes, so before any transaction."""
    user = _known(email)
    stored = user.password if user is not None else passwords.NO_PASSWORD
    right, renewed = passwords.verify(password, stored)
    if user is None or not right:
        raise WrongCredentials
    return user, renewed


def _let_in(checked: User, renewed: str | None) -> User:
    user = User.objects.select_for_update(no_key=True).get(pk=checked.pk)
    if not user.is_active or user.password != checked.password:  # changed while we hashed
        raise WrongCredentials
    if renewed is not None:
        user.password = renewed
        user.save(actor=user, update_fields=["password"])
    events.record_of_user(events.Type.USER_LOGGED_IN, user, actor=user)
    return user


def _known(email: str) -> User | None:
    try:
        validators.validate_email(email)
    except ValidationError:
        return None
    return User.objects.filter(email=validators.normalise_email(email), is_active=True).first()


def password_errors(password: str, user: User) -> list[str]:
    """What keeps this from being the user's password."""
    try:
        validators.validate_password_text(password)
        password_validation.validate_password(password, user)
    except ValidationError as error:
        return error.messages
    return []
