"""The table of roles, said once more, so that a change of it is meant."""

import pytest

from accounts import roles
from accounts.models import Role
from accounts.roles import Action, RoleName

NORMAL_USER_MAY = {
    "account.read",
    "account.update",
    "destination.read",
    "destination.update",
    "destination.pause",
    "member.read",
    "log.read",
    "event.read",
}


@pytest.mark.parametrize("action", Action)
def test_an_admin_may_do_everything(action):
    assert roles.permits(RoleName.ADMIN, action)


@pytest.mark.parametrize("action", Action)
def test_a_normal_user_may_do_this_and_nothing_else(action):
    assert roles.permits(RoleName.NORMAL_USER, action) == (action in NORMAL_USER_MAY)


@pytest.mark.django_db
def test_there_are_exactly_two_rows_and_they_are_what_the_code_says():
    rows = {RoleName(row.role_name): row.pk for row in Role.objects.all()}
    assert rows == roles.IDS == {RoleName.ADMIN: 1, RoleName.NORMAL_USER: 2}
