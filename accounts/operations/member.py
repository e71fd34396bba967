"""Who joins an account, changes role, or leaves, so that somebody always administers it?"""

from typing import Any
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import transaction

from accounts import events, queries, validators
from accounts.models import Member, User
from accounts.operations import access, change
from accounts.operations.access import NotAllowed
from accounts.operations.change import Invalid
from accounts.operations.invitation import invite
from accounts.operations.user import EmailTaken, insert_user
from accounts.roles import IDS, Action, RoleName


class AlreadyMember(Exception):
    """The user is a member of this account."""


class LastAdmin(Exception):
    """Somebody has to administer the account: its last Admin can't be removed or demoted."""


class OwnRole(NotAllowed):
    """Nobody changes their own role."""


@transaction.atomic
def add_member(*, actor: User, account_id: UUID, email: str, role: str) -> Member:
    """A user who isn't known yet is made; one without a password is invited, by mail after the commit.

    The member's `invitation_sent` tells then. Raises NotFound, NotAllowed, Invalid and AlreadyMember.
    """
    account = access.lock_account(actor, account_id, Action.ADD_MEMBER)
    errors = _role_errors(role)
    user = User(email=validators.normalise_email(email))
    change.check(user, ["email"], errors)
    user = _known_or_made(user, actor)
    if account.members.filter(user=user).exists():
        raise AlreadyMember
    member = Member(account=account, user=user, role_id=IDS[RoleName(role)])
    member.save(actor=actor, force_insert=True)
    _record(events.Type.MEMBER_ADDED, member, actor, role=member.role_name.value)
    added = queries.member(account_id, member.pk)
    added.invitation = invite(user, account=account, actor=actor)
    return added


@transaction.atomic
def update_member(
    *, actor: User, account_id: UUID, member_id: UUID, role: str | None, revision: int | None = None
) -> Member:
    """`role`: None leaves it. Raises NotFound, NotAllowed, OwnRole, LastAdmin, Stale and Invalid."""
    access.lock_account(actor, account_id, Action.UPDATE_MEMBER)
    member = queries.member(account_id, member_id)
    change.check_revision(member, revision)
    if role is None or member.role_name == role:
        return member
    if errors := _role_errors(role):
        raise Invalid(errors)
    _keep_an_admin(member)
    if member.user_id == actor.pk:
        raise OwnRole
    member.role_id = IDS[RoleName(role)]
    member.save(actor=actor)
    _record(events.Type.MEMBER_UPDATED, member, actor, role=member.role_name.value)
    return queries.member(account_id, member_id)


@transaction.atomic
def remove_member(*, actor: User, account_id: UUID, member_id: UUID, revision: int | None = None) -> None:
    """From the account; the user stays. Raises NotFound, NotAllowed, LastAdmin and Stale."""
    access.lock_account(actor, account_id, Action.REMOVE_MEMBER)
    member = queries.member(account_id, member_id)
    change.check_revision(member, revision)
    _keep_an_admin(member)
    _record(events.Type.MEMBER_REMOVED, member, actor)
    member.delete()


def _keep_an_admin(leaving: Member) -> None:
    """Two Admins remove each other at once: under the account's lock the second sees what the first did."""
    if leaving.role_name is not RoleName.ADMIN:
        return
    others = Member.objects.filter(account=leaving.account_id, role=leaving.role_id).exclude(pk=leaving.pk)
    if not others.exists():
        raise LastAdmin


def _known_or_made(user: User, actor: User) -> User:
    known = User.objects.filter(email=user.email).first()
    if known is not None:
        return known
    user.set_unusable_password()
    try:
        insert_user(user, creator=actor)
    except EmailTaken:  # another session invited or registered the address a moment ago
        return User.objects.get(email=user.email)
    return user


def _role_errors(role: str) -> dict[str, list[str]]:
    try:
        validators.validate_role(role)
    except ValidationError as error:
        return {"role": error.messages}
    return {}


def _record(type_: events.Type, member: Member, actor: User, **data: Any) -> None:
    events.record(
        type_, account_id=member.account_id, stream_id=member.pk, actor=actor,
        member=member.pk, user=member.user_id, **data,
    )  # fmt: skip
