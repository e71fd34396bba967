"""What has expired goes, all of it and nothing else, in slices that wait for nobody."""

from datetime import timedelta

import pytest
from django.contrib.sessions.models import Session
from django.db import connection, transaction
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone

from accounts import housekeeping, operations, slowdown, tokens
from accounts.models import AccessToken, Failure, IngestToken, Invitation, KeptAnswer
from accounts.operations import idempotency
from tests.accounts.conftest import PASSWORD, register

SECOND = timedelta(seconds=1)
KINDS = {"session", "accesstoken", "invitation", "ingesttoken", "failure", "keptanswer"}


def fill() -> None:
    """A row of each kind that expires in an hour, and an ingest token that does not."""
    alice = register("alice")
    account = operations.create_account(actor=alice, name="Orders").account
    operations.rotate_token(actor=alice, account_id=account.pk, overlap_seconds=60)
    operations.add_member(actor=alice, account_id=account.pk, email="dora@people.example.com", role="Admin")
    operations.log_in(email=alice.email, password=PASSWORD)
    KeptAnswer.objects.create(user=alice, key="key", request_digest=bytes(32))
    Session.objects.create(session_key="k", session_data="", expire_date=timezone.now() + SECOND)
    soon = Now() + timedelta(hours=1)
    AccessToken.objects.update(expires_at=soon)
    Invitation.objects.update(expires_at=soon)
    IngestToken.objects.filter(expires_at__isnull=False).update(expires_at=soon)
    Session.objects.update(expire_date=soon)
    Failure.objects.update(last_at=soon - timedelta(seconds=slowdown.QUIET_SECONDS))
    KeptAnswer.objects.update(created_at=soon - idempotency.KEPT)


def let_an_hour_pass() -> None:
    for model, field in (
        (AccessToken, "expires_at"),
        (Invitation, "expires_at"),
        (IngestToken, "expires_at"),
        (Session, "expire_date"),
        (Failure, "last_at"),
        (KeptAnswer, "created_at"),
    ):
        model.objects.update(**{field: F(field) - timedelta(hours=1)})


@pytest.mark.django_db
def test_what_has_expired_goes_and_nothing_before():
    fill()
    assert housekeeping.sweep() == dict.fromkeys(KINDS, 0)
    let_an_hour_pass()
    assert housekeeping.sweep() == dict.fromkeys(KINDS, 1) | {"failure": 2}  # of the log-in and the inviter
    assert housekeeping.sweep() == dict.fromkeys(KINDS, 0)
    assert IngestToken.objects.count() == 1  # the present one has no end


@pytest.fixture
def many_tokens(alice):
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO accounts_accesstoken (id, user_id, digest, created_at, expires_at)"
            " SELECT gen_random_uuid(), %s, sha256(n::text::bytea), now(), now() - interval '1 day'"
            " FROM generate_series(1, 25) n",
            [alice.pk],
        )


@pytest.mark.usefixtures("many_tokens")
def test_it_goes_in_slices_and_a_run_has_an_end(monkeypatch):
    monkeypatch.setattr(housekeeping, "SLICE", 10)
    assert housekeeping.sweep()["accesstoken"] == 25
    assert not AccessToken.objects.exists()


@pytest.mark.usefixtures("many_tokens")
def test_a_run_that_finds_too_much_leaves_the_rest_to_the_next(monkeypatch):
    monkeypatch.setattr(housekeeping, "SLICE", 5)
    monkeypatch.setattr(housekeeping, "MOST_SLICES", 4)  # the first is for sessions
    assert housekeeping.sweep()["accesstoken"] == 15
    assert housekeeping.sweep()["accesstoken"] == 10


def test_a_row_that_somebody_is_at_is_left_to_the_next_run(database):
    alice = register("alice")
    for number in range(2):
        AccessToken.objects.create(
            user=alice, digest=tokens.make_access().digest, expires_at=Now() - SECOND * (number + 1)
        )
    other = database.connect(autocommit=False)
    other.execute("SELECT FROM accounts_accesstoken ORDER BY expires_at LIMIT 1 FOR UPDATE")
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL lock_timeout = '2s'")
        assert housekeeping.sweep()["accesstoken"] == 1
    other.rollback()
    assert housekeeping.sweep()["accesstoken"] == 1
