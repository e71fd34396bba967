"""Every change is recorded once, with its actor, in its own transaction, and without a secret."""

import pytest
from django.db import transaction

from accounts import operations
from accounts.models import Account, Destination, IngestToken, Member, User
from tests.accounts.conftest import PASSWORD
from tests.accounts.recorded import NOBODY, events, everything

pytestmark = pytest.mark.django_db


@pytest.fixture
def story():
    """Everything that can be done, with a canary in every value; answers who and what there was."""
    canary = "CanaryValue"
    alice = operations.register_user(email="canary-alice@canary.example.com", password=f"{canary} password 1")
    logged_in = operations.log_in(email=alice.email, password=f"{canary} password 1")
    operations.log_out(access_token=logged_in.access_token)
    account, token = operations.create_account(actor=alice, name=canary, website="https://canary.example.com")
    operations.update_account(
        actor=alice, account_id=account.pk, changes={"name": f"{canary} 2", "rate_limit_per_second": 7}
    )
    rotated = operations.rotate_token(actor=alice, account_id=account.pk, overlap_seconds=60)
    destination, secret = operations.create_destination(
        actor=alice,
        account_id=account.pk,
        url=f"https://canary.example.com/{canary}?key={canary}",
        http_method="POST",
        headers={"Authorization": canary, f"X-{canary}": canary},
    )
    where = {"actor": alice, "account_id": account.pk, "destination_id": destination.pk}
    operations.update_destination(
        **where,
        changes={"url": f"https://canary.example.com/{canary}2", "headers": {"Authorization": canary + "3"}},
    )
    operations.pause_destination(**where)
    operations.resume_destination(**where)
    other_secret = operations.rotate_signing_secret(**where).signing_secret
    operations.deactivate_destination(destination_id=destination.pk, reason="gone")
    operations.delete_destination(**where)
    member = operations.add_member(
        actor=alice, account_id=account.pk, email="canary-bob@canary.example.com", role="Normal user"
    )
    operations.update_member(actor=alice, account_id=account.pk, member_id=member.pk, role="Admin")
    operations.remove_member(actor=alice, account_id=account.pk, member_id=member.pk)
    operations.delete_account(actor=alice, account_id=account.pk)
    operations.change_password(
        actor=User.objects.get(pk=alice.pk),
        current_password=f"{canary} password 1",
        new_password=f"{canary} password 2",
    )
    operations.deactivate_user(email=member.user.email)
    operations.activate_user(email=member.user.email)
    secrets = [token, rotated.app_secret_token, logged_in.access_token, secret, other_secret]
    return {
        "alice": alice, "account": account.pk, "destination": destination.pk, "member": member.pk,
        "bob": member.user_id, "secrets": secrets,
    }  # fmt: skip


def test_the_history_of_an_account(story):
    account, destination, member = story["account"], story["destination"], story["member"]
    admin = next(stream for kind, stream, *_ in events(account) if kind == "member.added")
    assert [(kind, stream, version) for kind, stream, version, _ in events(account)] == [
        ("account.created", account, 1),
        ("token.created", account, 2),
        ("member.added", admin, 1),
        ("account.updated", account, 3),
        ("token.rotated", account, 4),
        ("destination.created", destination, 1),
        ("destination.updated", destination, 2),
        ("destination.paused", destination, 3),
        ("destination.resumed", destination, 4),
        ("destination.secret_rotated", destination, 5),
        ("destination.deactivated", destination, 6),
        ("destination.deleted", destination, 7),
        ("member.added", member, 1),
        ("member.updated", member, 2),
        ("member.removed", member, 3),
        ("account.deleted", account, 5),
    ]


def test_the_history_of_people(story):
    assert [(kind, stream, version) for kind, stream, version, _ in events(NOBODY)] == [
        ("user.registered", story["alice"].pk, 1),
        ("user.logged_in", story["alice"].pk, 2),
        ("user.logged_out", story["alice"].pk, 3),
        ("user.invited", story["bob"], 1),
        ("user.password_changed", story["alice"].pk, 4),
        ("user.deactivated", story["bob"], 2),
        ("user.activated", story["bob"], 3),
    ]


def test_every_event_names_its_actor_but_the_programs_own(story):
    for kind, _, _, data in events(story["account"]) + events(NOBODY):
        if kind in {"destination.deactivated", "user.deactivated", "user.activated"}:
            assert "actor" not in data
        else:
            assert data["actor"] == str(story["alice"].pk)


def test_what_changed_is_said_by_name(story):
    told = {kind: data for kind, _, _, data in events(story["account"])}
    actor = {"actor": str(story["alice"].pk)}
    destination = {"destination": str(story["destination"])}
    assert told["account.updated"] == actor | {
        "fields": ["name", "rate_limit_per_second"],
        "rate_limit_per_second": 7,
    }
    assert told["destination.updated"] == actor | destination | {"fields": ["url", "headers"], "active": True}
    assert told["member.updated"] == actor | {
        "member": str(story["member"]),
        "user": str(story["bob"]),
        "role": "Admin",
    }
    assert told["account.deleted"] == actor


def test_no_secret_address_or_value_is_in_any_event(story):
    text = everything()
    assert "account.deleted" in text
    assert "canary" not in text.lower()
    for secret in story["secrets"]:
        assert secret not in text
        assert secret[-20:] not in text


def test_a_refusal_leaves_no_event_and_no_row(alice, bob, account, destination):
    before = everything()
    where = {"account_id": account.pk}
    o, here = operations, {**where, "destination_id": destination.pk}
    for error, refused in (
        (o.Invalid, lambda: o.create_account(actor=alice, name="")),
        (o.Invalid, lambda: o.update_account(actor=alice, **where, changes={"name": ""})),
        (o.NotAllowed, lambda: o.delete_account(actor=bob, **where)),
        (o.AlreadyMember, lambda: o.add_member(actor=alice, **where, email=bob.email, role="Admin")),
        (o.NotAllowed, lambda: o.add_member(actor=bob, **where, email="n@people.example.com", role="Admin")),
        (o.EmailTaken, lambda: o.register_user(email=bob.email, password=PASSWORD)),
        (o.NotAllowed, lambda: o.delete_destination(actor=bob, **here)),
        (o.Stale, lambda: o.pause_destination(actor=alice, **here, revision=9)),
    ):
        with pytest.raises(error):
            refused()
    assert everything() == before
    counts = [model.objects.count() for model in (User, Account, Member, Destination, IngestToken)]
    assert counts == [2, 1, 2, 1, 1]


def test_a_change_that_cannot_be_recorded_is_not_made(alice, account, monkeypatch):
    def fail(_) -> None:
        raise OSError("the store is away")

    monkeypatch.setattr("accounts.events.append.append", fail)
    with pytest.raises(OSError, match="store"), transaction.atomic():
        operations.update_account(actor=alice, account_id=account.pk, changes={"name": "New"})
    assert Account.objects.get().name == "Orders"
