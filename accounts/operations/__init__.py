"""Every write: what can be done to users, accounts, destinations and members, and by whom?

Each is one transaction: it locks what it changes, asks again whether the actor may (a role may have gone
since the door asked), keeps the invariants, and appends its event. Locks are taken in one order: the account,
then what is in it.
"""

from accounts.operations.access import NotAllowed
from accounts.operations.account import (
    NewAccount,
    NewIngestToken,
    TooManyTokens,
    create_account,
    delete_account,
    rotate_token,
    update_account,
)
from accounts.operations.change import Invalid, Stale
from accounts.operations.destination import (
    NewDestination,
    NewSigningSecret,
    TooManyDestinations,
    create_destination,
    deactivate_destination,
    delete_destination,
    pause_destination,
    resume_destination,
    rotate_signing_secret,
    update_destination,
)
from accounts.operations.invitation import UnknownInvitation, accept_invitation
from accounts.operations.member import (
    AlreadyMember,
    LastAdmin,
    OwnRole,
    add_member,
    remove_member,
    update_member,
)
from accounts.operations.user import (
    EmailTaken,
    LoggedIn,
    WrongCredentials,
    WrongPassword,
    activate_user,
    change_password,
    close_session,
    deactivate_user,
    log_in,
    log_out,
    open_session,
    register_user,
)
from accounts.passwords import Busy
from accounts.queries import NotFound
from accounts.slowdown import TooManyFailures

__all__ = [
    "AlreadyMember",
    "Busy",
    "EmailTaken",
    "Invalid",
    "LastAdmin",
    "LoggedIn",
    "NewAccount",
    "NewDestination",
    "NewIngestToken",
    "NewSigningSecret",
    "NotAllowed",
    "NotFound",
    "OwnRole",
    "Stale",
    "TooManyDestinations",
    "TooManyFailures",
    "TooManyTokens",
    "UnknownInvitation",
    "WrongCredentials",
    "WrongPassword",
    "accept_invitation",
    "activate_user",
    "add_member",
    "change_password",
    "close_session",
    "create_account",
    "create_destination",
    "deactivate_destination",
    "deactivate_user",
    "delete_account",
    "delete_destination",
    "log_in",
    "log_out",
    "open_session",
    "pause_destination",
    "register_user",
    "remove_member",
    "resume_destination",
    "rotate_signing_secret",
    "rotate_token",
    "update_account",
    "update_destination",
    "update_member",
]
