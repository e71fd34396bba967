"""How do people come, and go: register, log in, log out?"""

from typing import NamedTuple

from django.contrib.auth import hashers, password_validation
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models.functions import Now

from accounts import events, tokens, validators
from accounts.models import AccessToken, User
from accounts.operations import change

ACCESS_SECONDS = 7 * 24 * 3600
NO_PASSWORD = hashers.UNUSABLE_PASSWORD_PREFIX


class EmailTaken(Exception):
    """A user with this e-mail address is known already, registered or invited."""


class WrongCredentials(Exception):
    """No active user has this e-mail address and password; which of them is wrong isn't said."""


class LoggedIn(NamedTuple):
    """`access_token` is shown once."""

    access_token: str
    user: User


def register_user(*, email: str, password: str) -> User:
    """Raises Invalid and EmailTaken."""
    user = User(email=validators.normalise_email(email), registered=True)
    change.check(user, ["email"], _password_errors(password, user))
    user.set_password(password)  # slow by design, so before the transaction
    with transaction.atomic():
        insert_user(user, creator=user)
        events.record_of_user("user.registered", user, actor=user)
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


def log_in(*, email: str, password: str) -> LoggedIn:
    """Raises WrongCredentials: alike and in like time, whether the user or the password is wrong."""
    user = _known(email)
    stored = user.password if user is not None else NO_PASSWORD
    # Against an unusable password Django hashes all the same, so that the time tells nothing.
    right, outdated = hashers.verify_password(password if validators.is_fit(password) else None, stored)
    if user is None or not right:
        raise WrongCredentials
    return _let_in(user, rehash=password if outdated else None)


@transaction.atomic
def _let_in(checked: User, *, rehash: str | None) -> LoggedIn:
    user = User.objects.select_for_update(no_key=True).get(pk=checked.pk)
    if not user.is_active or user.password != checked.password:  # changed while we hashed
        raise WrongCredentials
    if rehash is not None:
        user.set_password(rehash)
        user.save(actor=user, update_fields=["password"])
    AccessToken.objects.filter(user=user, expires_at__lte=Now()).delete()
    token = tokens.make_access()
    AccessToken.objects.create(user=user, digest=token.digest, expires_at=change.in_seconds(ACCESS_SECONDS))
    events.record_of_user("user.logged_in", user, actor=user)
    return LoggedIn(token.text, user)


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
    events.record_of_user("user.logged_out", user, actor=user)


def _known(email: str) -> User | None:
    try:
        validators.validate_email(email)
    except ValidationError:
        return None
    return User.objects.filter(email=validators.normalise_email(email), is_active=True).first()


def _password_errors(password: str, user: User) -> dict[str, list[str]]:
    try:
        validators.validate_password_text(password)
        password_validation.validate_password(password, user)
    except ValidationError as error:
        return {"password": error.messages}
    return {}


def open_session(*, email: str, password: str) -> User:
    """Log in for a browser's session, which needs no access token. Raises WrongCredentials, as `log_in`."""
    access_token, user = log_in(email=email, password=password)
    presented = tokens.parse_access(access_token)
    if presented is not None:
        AccessToken.objects.filter(digest=presented.digest).delete()
    return user


@transaction.atomic
def close_session(user: User) -> None:
    """Record that a browser's session is ended; the session itself is its door's."""
    User.objects.select_for_update(no_key=True).get(pk=user.pk)
    events.record_of_user("user.logged_out", user, actor=user)
