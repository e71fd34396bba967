"""Secrets at rest: what opens where, and how they get onto another key."""

import base64
import io
import threading
from dataclasses import replace
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from accounts import encryption, operations, rotation
from accounts.encryption import Place, Undecryptable
from accounts.models import Destination
from tests.accounts.conftest import add_destination, register

OLD, NEW = {"k1": b"\0" * 32}, {"k2": b"\2" * 32}
PLACE = Place(uuid4(), uuid4(), "headers")


@given(st.binary(max_size=2000))
def test_what_was_encrypted_opens_in_its_place(secret):
    stored = encryption.encrypt(secret, PLACE)
    assert stored.startswith("k1.")
    assert encryption.decrypt(stored, PLACE) == secret


def test_the_same_secret_never_looks_the_same():
    assert len({encryption.encrypt(b"secret", PLACE) for _ in range(100)}) == 100


@pytest.mark.parametrize(
    "elsewhere",
    [
        replace(PLACE, account_id=uuid4()),
        replace(PLACE, destination_id=uuid4()),
        replace(PLACE, field="signing_secret"),
    ],
)
def test_it_opens_nothing_elsewhere(elsewhere):
    with pytest.raises(Undecryptable):
        encryption.decrypt(encryption.encrypt(b"secret", PLACE), elsewhere)


@given(st.data())
def test_a_changed_bit_opens_nothing(data):
    key_id, _, encoded = encryption.encrypt(b"secret", PLACE).partition(".")
    sealed = bytearray(base64.urlsafe_b64decode(encoded))
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(Undecryptable):
        encryption.decrypt(f"{key_id}.{base64.urlsafe_b64encode(sealed).decode()}", PLACE)


@pytest.mark.parametrize(
    "stored", ["", ".", "k1", "k1.", "k1.AAAA", "k9.AAAA", "k1.\n", "k1.é", "plain text"]
)
def test_what_was_never_encrypted_opens_nothing(stored):
    with pytest.raises(Undecryptable):
        encryption.decrypt(stored, PLACE)


def test_the_current_key_is_the_first_and_the_others_still_open(settings):
    stored = encryption.encrypt(b"secret", PLACE)
    settings.ENCRYPTION_KEYS = {**NEW, **OLD}
    assert encryption.decrypt(stored, PLACE) == b"secret"
    assert encryption.encrypt(b"secret", PLACE).startswith("k2.")
    settings.ENCRYPTION_KEYS = NEW
    with pytest.raises(Undecryptable, match="k1"):
        encryption.decrypt(stored, PLACE)


@pytest.mark.django_db
def test_headers_moved_to_another_row_open_nothing(alice, account, destination):
    other = add_destination(alice, account, headers={"X-Api-Key": "other"})
    Destination.objects.filter(pk=other.pk).update(encrypted_headers=destination.encrypted_headers)
    other.refresh_from_db()
    with pytest.raises(Undecryptable):
        _ = other.headers


def rotate() -> str:
    said = io.StringIO()
    call_command("rotate_encryption", stdout=said)
    return said.getvalue()


@pytest.mark.django_db
class TestRotating:
    def test_every_secret_moves_and_the_old_key_can_go(self, alice, account, destination, settings):
        add_destination(alice, account)
        operations.rotate_signing_secret(
            actor=alice, account_id=account.pk, destination_id=destination.pk, overlap_seconds=60
        )
        before = Destination.objects.get(pk=destination.pk)
        settings.ENCRYPTION_KEYS = {**NEW, **OLD}
        assert rotation.outdated().count() == 2
        assert "k2" in rotate()
        settings.ENCRYPTION_KEYS = NEW
        after = Destination.objects.get(pk=destination.pk)
        assert after.headers == {"Authorization": "Bearer s3cret", "X-Team": "blue"}
        assert (after.revision, after.updated_at) == (before.revision, before.updated_at)
        assert all(getattr(after, field).startswith("k2.") for field in rotation.FIELDS)

    @pytest.mark.usefixtures("destination")
    def test_twice_is_once(self, settings):
        settings.ENCRYPTION_KEYS = {**NEW, **OLD}
        rotate()
        stored = Destination.objects.get().encrypted_headers
        rotate()
        assert Destination.objects.get().encrypted_headers == stored

    def test_slices_leave_nothing_out(self, alice, account, settings):
        made = {add_destination(alice, account).pk for _ in range(7)}
        settings.ENCRYPTION_KEYS = {**NEW, **OLD}
        assert {step.destination_id for step in rotation.rotate(at_once=3)} == made
        assert not rotation.outdated().exists()

    def test_one_that_cannot_be_read_is_named_and_the_others_move(
        self, alice, account, destination, settings
    ):
        lost = add_destination(alice, account)
        Destination.objects.filter(pk=lost.pk).update(encrypted_headers=destination.encrypted_headers)
        settings.ENCRYPTION_KEYS = {**NEW, **OLD}
        with pytest.raises(CommandError, match=str(lost.pk)):
            rotate()
        assert [row.pk for row in rotation.outdated()] == [lost.pk]

    def test_what_was_changed_or_deleted_meanwhile_stays_so(self, alice, account, destination, settings):
        where = {"actor": alice, "account_id": account.pk, "destination_id": destination.pk}
        other = add_destination(alice, account)
        settings.ENCRYPTION_KEYS = {**NEW, **OLD}
        steps = rotation.rotate()
        assert next(steps).destination_id == destination.pk
        operations.update_destination(**where, changes={"headers": {"X-New": "1"}})
        operations.delete_destination(**where | {"destination_id": other.pk})
        assert [step.unreadable for step in steps] == [False]
        stored = Destination.objects.get()
        assert stored.headers == {"X-New": "1"}
        assert not rotation.outdated().exists()


@pytest.mark.usefixtures("database")
def test_two_rotations_and_a_writer_at_once_lose_nothing(settings):
    owner = register("owner")
    account = operations.create_account(actor=owner, name="Busy").account
    made = [add_destination(owner, account, headers={"X-Token": str(n)}) for n in range(20)]
    settings.ENCRYPTION_KEYS = {**NEW, **OLD}
    failures: list[BaseException] = []

    def run(work) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - told below
            failures.append(error)
        finally:
            connection.close()

    def write() -> None:
        for number, destination in enumerate(made):
            operations.update_destination(
                actor=owner, account_id=account.pk, destination_id=destination.pk,
                changes={"headers": {"X-Token": f"new {number}"}},
            )  # fmt: skip

    threads = [threading.Thread(target=run, args=[work]) for work in (rotate, rotate, write)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    settings.ENCRYPTION_KEYS = NEW
    stored = [destination.headers for destination in Destination.objects.order_by("pk")]
    assert stored == [{"X-Token": f"new {number}"} for number in range(20)]
