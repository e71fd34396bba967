"""Is a body that is wrong in very many places refused as quickly as any other?

A mebibyte has room for half a million members. Who isn't logged in may send that, too.
"""

import time

import pytest
from rest_framework.test import APIClient

LOGIN = "/api/v1/auth/login/"
SECONDS = 0.5  # it took 1 to 9 when each was told


def joined(*members: str, ends: str = "{}") -> bytes:
    return f"{ends[0]}{','.join(members)}{ends[1]}".encode()


def numbered(form: str, number: int) -> list[str]:
    return [form.replace("#", f"{member:x}") for member in range(number)]


BODIES = {
    "unknown fields": joined(*numbered('"#":1', 100_000)),
    "names that stand twice": joined(*numbered('"#":1,"#":1', 45_000)),
}
MEMBERS = {
    "retry_schedule_seconds": joined(*numbered('""', 340_000), ends="[]"),
    "headers": joined(*numbered('"#":1', 100_000)),
}


@pytest.mark.django_db
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_what_is_wrong_is_told_a_hundred_times(body):
    began = time.process_time()
    reply = APIClient().post(LOGIN, body, content_type="application/json")
    assert time.process_time() - began < SECONDS
    assert reply.status_code == 400
    assert len(reply.json()["errors"]) == 100


@pytest.mark.parametrize("field", MEMBERS)
def test_what_is_far_too_long_is_not_looked_through(alice, destination, field):
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {alice.token}")
    path = f"/api/v1/accounts/{destination.account_id}/destinations/{destination.pk}/"
    began = time.process_time()
    reply = client.patch(
        path, b'{"%s":%s}' % (field.encode(), MEMBERS[field]), content_type="application/json"
    )
    assert time.process_time() - began < SECONDS
    assert reply.status_code == 400
    assert reply.json()["errors"] == {field: ["There are more than 100."]}
