"""Who may do what in an account? Two roles, and one table."""

from enum import StrEnum


class RoleName(StrEnum):
    """The roles, named as in the table of roles."""

    ADMIN = "Admin"
    NORMAL_USER = "Normal user"


IDS = {RoleName.ADMIN: 1, RoleName.NORMAL_USER: 2}
"""The primary keys of the two rows; a migration writes them."""

NAMES = {number: name for name, number in IDS.items()}


class Action(StrEnum):
    """What can be done in an account, by somebody who is a member of it."""

    READ_ACCOUNT = "account.read"
    UPDATE_ACCOUNT = "account.update"
    CHANGE_RATE_LIMIT = "account.change_rate_limit"
    DELETE_ACCOUNT = "account.delete"
    ROTATE_TOKEN = "token.rotate"  # noqa: S105  # an action's name
    CREATE_DESTINATION = "destination.create"
    READ_DESTINATION = "destination.read"
    UPDATE_DESTINATION = "destination.update"
    PAUSE_DESTINATION = "destination.pause"
    TEST_DESTINATION = "destination.test"
    ROTATE_SIGNING_SECRET = "destination.rotate_signing_secret"  # noqa: S105  # an action's name
    DELETE_DESTINATION = "destination.delete"
    ADD_MEMBER = "member.add"
    READ_MEMBER = "member.read"
    UPDATE_MEMBER = "member.update"
    REMOVE_MEMBER = "member.remove"
    READ_LOG = "log.read"
    REDELIVER = "log.redeliver"
    READ_EVENT = "event.read"


PERMISSIONS: dict[RoleName, frozenset[Action]] = {
    RoleName.ADMIN: frozenset(Action),
    RoleName.NORMAL_USER: frozenset(
        {
            Action.READ_ACCOUNT,
            Action.UPDATE_ACCOUNT,
            Action.READ_DESTINATION,
            Action.UPDATE_DESTINATION,
            Action.PAUSE_DESTINATION,
            Action.READ_MEMBER,
            Action.READ_LOG,
            Action.READ_EVENT,
        }
    ),
}


def permits(role: RoleName, action: Action) -> bool:
    return action in PERMISSIONS[role]
