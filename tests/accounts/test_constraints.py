"""The database refuses by itself what the validators refuse, whoever writes."""

from uuid import uuid4

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import DataError, IntegrityError, connection, transaction
from django.db.models import CASCADE, PROTECT, ForeignKey
from django.db.models.functions import Now

from accounts.models import (
    Account,
    Destination,
    Failure,
    IngestToken,
    Invitation,
    KeptAnswer,
    Member,
    Role,
    User,
)
from tests.accounts.values import BAD, GOOD, cases

pytestmark = pytest.mark.django_db


def write(table: str, column: str, value: object, pk: object) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"UPDATE accounts_{table} SET {column} = %s WHERE id = %s", [value, pk])


@pytest.fixture
def rows(alice, account, destination) -> dict[str, object]:
    return {"user": alice.pk, "account": account.pk, "destination": destination.pk}


def test_what_may_be_is_stored(rows):
    for table, column, value in cases(GOOD):
        write(table, column, value, rows[table])


@pytest.mark.parametrize(("table", "column", "value"), cases(BAD))
def test_what_may_not_be_is_refused(rows, table, column, value):
    with pytest.raises((IntegrityError, DataError)):
        write(table, column, value, rows[table])


def test_an_address_in_upper_case_is_refused(rows):
    with pytest.raises(IntegrityError, match="user_email_is_an_address_in_lower_case"):
        write("user", "email", "A@B.co", rows["user"])


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("encrypted_headers", '{"Authorization": "Bearer s3cret"}'),  # plain text
        ("encrypted_headers", ""),
        ("encrypted_signing_secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        ("encrypted_previous_signing_secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        ("previous_signing_secret_ends_at", "2030-01-01T00:00:00Z"),  # an end without a secret
    ],
)
def test_a_secret_is_never_stored_in_plain(destination, column, value):
    with pytest.raises(IntegrityError):
        write("destination", column, value, destination.pk)


@pytest.mark.parametrize(
    ("column", "value"), [("digest", b"\0" * 31), ("key_id", "short"), ("key_id", "a-b_c.d!e:f;")]
)
def test_a_token_has_the_right_shape(account, column, value):
    with pytest.raises(IntegrityError):
        write("ingesttoken", column, value, IngestToken.objects.get().pk)


@pytest.mark.parametrize(
    "row",
    [
        lambda alice: Invitation(user=alice, digest=b"short", expires_at=Now()),
        lambda alice: Failure(key=alice.email.encode()),  # who it is
        lambda alice: KeptAnswer(user=alice, key="k", request_digest=b"short"),
        lambda alice: KeptAnswer(user=alice, key="", request_digest=bytes(32)),
        lambda alice: KeptAnswer(user=alice, key="a b", request_digest=bytes(32)),
        lambda alice: KeptAnswer(user=alice, key="k", request_digest=bytes(32), status=200),  # no answer
        lambda alice: KeptAnswer(
            user=alice, key="k", request_digest=bytes(32), status=201, encrypted_answer='{"plain": "text"}'
        ),
        lambda alice: KeptAnswer(
            user=alice, key="k", request_digest=bytes(32), status=409, encrypted_answer="k1." + "A" * 40
        ),
    ],
)
def test_invitations_failures_and_answers_are_whole_and_plain_to_nobody(alice, row):
    with pytest.raises(IntegrityError), transaction.atomic():
        row(alice).save(force_insert=True)


def test_one_invitation_per_user(alice):
    Invitation.objects.create(user=alice, digest=bytes(32), expires_at=Now())
    with pytest.raises(IntegrityError), transaction.atomic():
        Invitation.objects.create(user=alice, digest=b"1" * 32, expires_at=Now())


@pytest.mark.parametrize(
    "role",
    [Role(id=3, role_name="Owner"), Role(id=3, role_name="Admin"), Role(id=1, role_name="Normal user")],
)
def test_there_is_no_third_role(role):
    with pytest.raises(IntegrityError), transaction.atomic():
        role.save()


def test_a_role_in_use_stays(account):
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        with pytest.raises(IntegrityError), transaction.atomic():
            cursor.execute("DELETE FROM accounts_role")


@pytest.mark.parametrize("model", [User, Account, Destination, Member])
@pytest.mark.parametrize("column", ["created_by_id", "updated_by_id", "created_at", "updated_at"])
def test_who_and_when_are_always_there(destination, model, column):
    row = model.objects.first()
    with pytest.raises(IntegrityError, match="null value"):
        write(model._meta.model_name, column, None, row.pk)


def test_a_row_without_its_maker_is_refused(alice):
    with pytest.raises(IntegrityError, match="created_by_id"), transaction.atomic():
        Account(name="Nobody's").save()


def test_one_membership_per_account_and_user(alice, account):
    with pytest.raises(IntegrityError, match="member_once_per_account"), transaction.atomic():
        Member(account=account, user=alice, role_id=2).save(actor=alice)


def test_one_user_per_address(alice):
    with pytest.raises(IntegrityError, match="email"), transaction.atomic():
        User(id=uuid4(), email=alice.email).save(actor=alice)


def test_no_table_is_named_as_a_part_of_another():
    """A query cache that goes by names in statements would take one for the other."""
    ours = [model._meta.db_table for model in apps.get_app_config("accounts").get_models()]
    every = connection.introspection.table_names()
    assert [(one, other) for one in ours for other in every if one != other and one in other] == []


def test_deletions_cascade_by_the_orm_and_never_from_a_person():
    for model in apps.get_app_config("accounts").get_models():
        for field in model._meta.get_fields():
            if isinstance(field, ForeignKey):
                assert field.remote_field.on_delete in {CASCADE, PROTECT}, field
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT conname FROM pg_constraint WHERE contype = 'f' AND confdeltype <> 'a'"
            " AND conrelid::regclass::text LIKE 'accounts_%'"
        )
        assert cursor.fetchall() == []


def test_the_migrations_are_complete():
    call_command("makemigrations", "accounts", check=True, dry_run=True, verbosity=0)
