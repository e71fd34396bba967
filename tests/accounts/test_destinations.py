"""Destinations: their fields, their secrets behind masks, pausing, ending, and who hears of it."""

import base64
from uuid import uuid4

import pytest

from accounts import masks, operations, queries, signals
from accounts.models import Destination
from tests.accounts.conftest import add_destination
from tests.accounts.recorded import events, types
from tests.accounts.values import BAD_HEADERS

pytestmark = pytest.mark.django_db


@pytest.fixture
def where(account, destination) -> dict:
    return {"account_id": account.pk, "destination_id": destination.pk}


@pytest.fixture
def heard():
    notes: list = []

    def note(*, destination_id, account_id, **_):
        notes.append((destination_id, account_id))

    signals.destination_changed.connect(note)
    yield notes
    signals.destination_changed.disconnect(note)


class TestCreating:
    @pytest.mark.usefixtures("destination")
    def test_it_has_the_operators_defaults(self, alice, settings):
        stored = Destination.objects.get()
        assert (stored.created_by, stored.updated_by, stored.revision) == (alice, alice, 1)
        assert (stored.active, stored.paused, stored.timeout_seconds) == (True, False, 15)
        assert stored.retry_schedule_seconds == settings.RETRY_SCHEDULE
        assert stored.headers == {"Authorization": "Bearer s3cret", "X-Team": "blue"}

    def test_its_signing_secret_is_a_standard_webhooks_one(self, alice, account):
        _, secret = operations.create_destination(
            actor=alice, account_id=account.pk, url="https://example.com/", http_method="POST", headers={}
        )
        assert secret.startswith("whsec_")
        assert len(base64.b64decode(secret.removeprefix("whsec_"))) == 32

    def test_all_wrong_fields_are_told_at_once(self, alice, account):
        with pytest.raises(operations.Invalid) as refusal:
            add_destination(
                alice, account, url="https://10.0.0.1", http_method="HEAD", headers={"Host": "x"},
                timeout_seconds=0, retry_schedule_seconds=[0],
            )  # fmt: skip
        wrong = {"url", "http_method", "headers", "timeout_seconds", "retry_schedule_seconds"}
        assert set(refusal.value.errors) == wrong
        assert not Destination.objects.exists()

    @pytest.mark.parametrize("headers", BAD_HEADERS)
    def test_bad_headers_are_refused(self, alice, account, headers):
        with pytest.raises(operations.Invalid) as refusal:
            add_destination(alice, account, headers=headers)
        assert list(refusal.value.errors) == ["headers"]

    def test_an_account_has_only_so_many(self, alice, account, settings):
        settings.DESTINATIONS_PER_ACCOUNT = 2
        first = add_destination(alice, account)
        add_destination(alice, account)
        with pytest.raises(operations.TooManyDestinations):
            add_destination(alice, account)
        operations.delete_destination(actor=alice, account_id=account.pk, destination_id=first.pk)
        add_destination(alice, account)

    def test_no_retries_at_all_is_a_schedule(self, alice, account):
        assert add_destination(alice, account, retry_schedule_seconds=[]).retry_schedule_seconds == []
        assert Destination.objects.get().retry_schedule_seconds == []


class TestUpdating:
    def test_a_normal_user_may(self, bob, where):
        changes = {"url": "https://new.example.com/", "timeout_seconds": 3, "retry_schedule_seconds": [1, 2]}
        changes["headers"] = {}
        operations.update_destination(actor=bob, **where, changes=changes)
        stored = Destination.objects.get()
        assert (stored.url, stored.timeout_seconds) == ("https://new.example.com/", 3)
        assert (stored.retry_schedule_seconds, stored.revision, stored.updated_by) == ([1, 2], 2, bob)
        assert "Authorization" not in stored.headers

    def test_wrong_fields_are_told_and_nothing_changes(self, alice, where):
        with pytest.raises(operations.Invalid) as refusal:
            operations.update_destination(
                actor=alice, **where, changes={"url": "x", "headers": {"Host": "y"}, "timeout_seconds": 3}
            )
        assert set(refusal.value.errors) == {"url", "headers"}
        assert Destination.objects.get().timeout_seconds == 15

    def test_a_stale_revision_is_refused(self, alice, where):
        operations.pause_destination(actor=alice, **where, revision=1)
        with pytest.raises(operations.Stale):
            operations.update_destination(actor=alice, **where, changes={"active": False}, revision=1)

    def test_only_what_it_was_about_is_checked(self, alice, where, settings):
        """An address that the operator has closed since doesn't keep its owner from switching it off."""
        local = {"url": "http://127.0.0.1:9000/", "headers": {}}
        operations.update_destination(actor=alice, **where, changes=local)
        settings.DESTINATION_ALLOW = []
        operations.update_destination(actor=alice, **where, changes={"active": False})

    def test_paused_is_not_among_the_fields(self, alice, where):
        with pytest.raises(TypeError, match="paused"):
            operations.update_destination(actor=alice, **where, changes={"paused": True})

    def test_a_destination_of_another_account_is_not_there(self, charlie, where):
        foreign = operations.create_account(actor=charlie, name="Foreign").account
        for account_id in (foreign.pk, uuid4()):
            with pytest.raises(operations.NotFound):
                operations.update_destination(
                    actor=charlie, account_id=account_id, destination_id=where["destination_id"], changes={}
                )
        with pytest.raises(operations.NotFound):
            queries.destination(foreign.pk, where["destination_id"])


class TestMasks:
    def test_secret_values_are_shown_masked(self, destination):
        assert destination.shown_headers == {"Authorization": masks.MASK, "X-Team": "blue"}

    @pytest.mark.parametrize(
        ("name", "secret"),
        [
            ("Authorization", True),
            ("X-API-KEY", True),
            ("app_secret", True),
            ("My-Token", True),
            ("Db-Password", True),
            ("X-Cookies", True),
            ("Accept", False),
            ("X-Team", False),
        ],
    )
    def test_which_names_are_secret(self, name, secret):
        assert (masks.mask({name: "v"})[name] == masks.MASK) == secret

    def test_sending_the_mask_back_changes_nothing(self, bob, where, destination):
        recorded = len(events(where["account_id"]))
        operations.update_destination(actor=bob, **where, changes={"headers": destination.shown_headers})
        stored = Destination.objects.get()
        assert stored.headers == destination.headers
        assert stored.encrypted_headers == destination.encrypted_headers
        assert (stored.revision, len(events(where["account_id"]))) == (1, recorded)

    def test_beside_a_mask_others_change(self, bob, where):
        headers = {"authorization": masks.MASK, "X-Team": "red", "X-Api-Key": "k"}  # another case, too
        operations.update_destination(actor=bob, **where, changes={"headers": headers})
        assert Destination.objects.get().headers == {
            "authorization": "Bearer s3cret",
            "X-Team": "red",
            "X-Api-Key": "k",
        }

    def test_a_mask_with_nothing_behind_it_is_refused(self, alice, account, where):
        for attempt in (
            lambda: add_destination(alice, account, headers={"X-Token": masks.MASK}),
            lambda: operations.update_destination(
                actor=alice, **where, changes={"headers": {"X-Token": masks.MASK}}
            ),
        ):
            with pytest.raises(operations.Invalid) as refusal:
                attempt()
            assert list(refusal.value.errors) == ["headers"]

    @pytest.mark.parametrize(
        "name",
        [
            "X-Team",  # stored, but shown as it is
            "X-Renamed",  # what was Authorization
            "X-Api-Key",  # secret, but not stored
        ],
    )
    def test_the_mask_itself_is_never_a_value(self, alice, where, destination, name):
        headers = {"Authorization": masks.MASK, name: masks.MASK}
        with pytest.raises(operations.Invalid) as refusal:
            operations.update_destination(actor=alice, **where, changes={"headers": headers})
        assert refusal.value.errors == {"headers": [f"{name}: there is no stored value behind ********."]}
        assert Destination.objects.get().headers == destination.headers

    def test_nor_of_a_new_destination(self, alice, account):
        with pytest.raises(operations.Invalid):
            add_destination(alice, account, headers={"X-Team": masks.MASK})

    def test_no_headers_is_a_change(self, alice, where):
        operations.update_destination(actor=alice, **where, changes={"headers": {}})
        assert Destination.objects.get().headers == {}


ELSEWHERE = [
    "http://hooks.example.com/in",  # anybody on the way could read it
    "https://evil.example.com/in",
    "https://hooks.example.com:8443/in",
    "http://127.0.0.1:9000/",
]


class TestSecretsAndAnotherAddress:
    @pytest.mark.parametrize("url", ELSEWHERE)
    @pytest.mark.parametrize(
        "headers",
        [
            {},  # left out
            {"headers": {"authorization": masks.MASK, "X-Team": "blue"}},
        ],
    )
    def test_they_do_not_follow(self, bob, where, destination, url, headers):
        with pytest.raises(operations.Invalid) as refusal:
            operations.update_destination(actor=bob, **where, changes={"url": url, **headers})
        (message,) = refusal.value.errors["headers"]
        assert message.lower().startswith("authorization: ")
        assert "s3cret" not in message
        stored = Destination.objects.get()
        assert (stored.url, stored.headers, stored.revision) == (destination.url, destination.headers, 1)

    @pytest.mark.parametrize("url", ELSEWHERE)
    def test_sent_again_they_do(self, bob, where, url):
        headers = {"Authorization": "Bearer other", "X-Team": "blue"}
        operations.update_destination(actor=bob, **where, changes={"url": url, "headers": headers})
        assert (Destination.objects.get().url, Destination.objects.get().headers) == (url, headers)

    def test_left_behind_they_are_no_hindrance_and_no_longer_stored(self, bob, where):
        changes = {"url": ELSEWHERE[1], "headers": {"X-Team": "blue"}}
        operations.update_destination(actor=bob, **where, changes=changes)
        operations.update_destination(actor=bob, **where, changes={"url": "https://hooks.example.com/in"})
        assert Destination.objects.get().headers == {"X-Team": "blue"}

    @pytest.mark.parametrize(
        "url",
        [
            "https://hooks.example.com/other?path=1",
            "HTTPS://Hooks.Example.COM/in",
            "https://hooks.example.com:443/in",
        ],
    )
    def test_at_the_same_address_they_stay(self, bob, where, destination, url):
        operations.update_destination(actor=bob, **where, changes={"url": url})
        assert Destination.objects.get().headers == destination.headers

    def test_a_url_that_can_not_be_one_is_told_by_itself(self, bob, where):
        with pytest.raises(operations.Invalid) as refusal:
            operations.update_destination(actor=bob, **where, changes={"url": "https://10.0.0.1/"})
        assert list(refusal.value.errors) == ["url"]

    def test_not_even_from_an_address_that_was_closed_since(self, bob, where, settings):
        local = {"url": "http://127.0.0.1:9000/", "headers": {"Authorization": "Bearer new"}}
        operations.update_destination(actor=bob, **where, changes=local)
        settings.DESTINATION_ALLOW = []
        with pytest.raises(operations.Invalid) as refusal:
            operations.update_destination(actor=bob, **where, changes={"url": ELSEWHERE[1]})
        assert list(refusal.value.errors) == ["headers"]

    def test_signing_secrets_stay_for_they_are_not_sent(self, bob, where, destination):
        operations.update_destination(actor=bob, **where, changes={"url": ELSEWHERE[1], "headers": {}})
        assert Destination.objects.get().encrypted_signing_secret == destination.encrypted_signing_secret


@pytest.fixture
def unreadable(destination, settings) -> Destination:
    """Its key was lost; the operator has another one."""
    settings.ENCRYPTION_KEYS = {"k2": b"\2" * 32}
    return destination


@pytest.mark.usefixtures("unreadable")
class TestWhatCanNotBeDecrypted:
    def test_it_is_shown_without_headers(self, account):
        assert [row.shown_headers for row in queries.destinations_of(account.pk)] == [{}]

    @pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer new"}])
    def test_new_headers_repair_it(self, bob, where, headers):
        operations.update_destination(actor=bob, **where, changes={"headers": headers})
        assert Destination.objects.get().headers == headers
        assert events(where["account_id"])[-1][3]["fields"] == ["headers"]

    def test_there_is_nothing_behind_a_mask(self, bob, where, unreadable):
        headers = {"Authorization": masks.MASK}
        with pytest.raises(operations.Invalid):
            operations.update_destination(actor=bob, **where, changes={"headers": headers})
        assert Destination.objects.get().encrypted_headers == unreadable.encrypted_headers

    def test_other_changes_leave_the_headers_alone(self, bob, where, unreadable):
        operations.update_destination(actor=bob, **where, changes={"active": False, "url": unreadable.url})
        assert Destination.objects.get().encrypted_headers == unreadable.encrypted_headers

    def test_they_do_not_follow_to_another_address_until_the_key_is_back(self, bob, where, unreadable):
        with pytest.raises(operations.Invalid) as refusal:
            operations.update_destination(actor=bob, **where, changes={"url": ELSEWHERE[1]})
        assert list(refusal.value.errors) == ["headers"]
        assert Destination.objects.get().url == unreadable.url

    def test_a_rotated_secret_stands_alone(self, alice, where):
        """Beside one that can't be read nothing could be sent before the overlap ends."""
        operations.rotate_signing_secret(actor=alice, **where, overlap_seconds=60)
        stored = Destination.objects.get()
        assert stored.has_readable_signing_secret
        assert stored.encrypted_previous_signing_secret == ""
        assert events(where["account_id"])[-1][3]["overlap_seconds"] == 0


class TestPausing:
    def test_both_roles_may_and_twice_is_once(self, alice, bob, where):
        operations.pause_destination(actor=bob, **where)
        operations.pause_destination(actor=alice, **where)
        assert (Destination.objects.get().paused, Destination.objects.get().updated_by) == (True, bob)
        operations.resume_destination(actor=alice, **where)
        operations.resume_destination(actor=bob, **where)
        assert (Destination.objects.get().paused, Destination.objects.get().revision) == (False, 3)
        assert types(where["account_id"])[-2:] == ["destination.paused", "destination.resumed"]


class TestEnding:
    def test_the_program_deactivates_without_an_actor(self, alice, where, heard):
        assert (
            operations.deactivate_destination(destination_id=where["destination_id"], reason="gone") is True
        )
        assert (
            operations.deactivate_destination(destination_id=where["destination_id"], reason="gone") is False
        )
        assert operations.deactivate_destination(destination_id=uuid4(), reason="gone") is False
        stored = Destination.objects.get()
        assert (stored.active, stored.updated_by, stored.revision) == (False, alice, 2)
        kind, stream, _, data = events(where["account_id"])[-1]
        assert (kind, stream) == ("destination.deactivated", stored.pk)
        assert data == {"destination": str(stored.pk), "reason": "gone"}
        assert heard == [(stored.pk, stored.account_id)]

    def test_its_owner_may_activate_it_again(self, alice, where):
        operations.deactivate_destination(destination_id=where["destination_id"], reason="gone")
        operations.update_destination(actor=alice, **where, changes={"active": True})
        assert Destination.objects.get().active

    def test_deleting_is_an_admins(self, alice, bob, where, heard):
        with pytest.raises(operations.NotAllowed):
            operations.delete_destination(actor=bob, **where)
        operations.delete_destination(actor=alice, **where)
        assert not Destination.objects.exists()
        assert heard == [(where["destination_id"], where["account_id"])]
        with pytest.raises(operations.NotFound):
            operations.delete_destination(actor=alice, **where)


class TestRotatingTheSigningSecret:
    def test_it_is_an_admins(self, bob, where):
        with pytest.raises(operations.NotAllowed):
            operations.rotate_signing_secret(actor=bob, **where)

    def test_the_old_one_stays_for_the_overlap(self, alice, where, destination):
        operations.rotate_signing_secret(actor=alice, **where, overlap_seconds=60)
        stored = Destination.objects.get()
        assert stored.encrypted_previous_signing_secret == destination.encrypted_signing_secret
        assert stored.previous_signing_secret_ends_at > stored.updated_at
        operations.rotate_signing_secret(actor=alice, **where, overlap_seconds=0)
        stored = Destination.objects.get()
        assert (stored.encrypted_previous_signing_secret, stored.previous_signing_secret_ends_at) == (
            "",
            None,
        )
        assert stored.revision == 3

    @pytest.mark.parametrize("seconds", [-1, 7 * 24 * 3600 + 1])
    def test_an_overlap_is_at_most_a_week(self, alice, where, seconds):
        with pytest.raises(operations.Invalid):
            operations.rotate_signing_secret(actor=alice, **where, overlap_seconds=seconds)


def test_every_change_is_heard_once(alice, account, heard):
    made = add_destination(alice, account)
    where = {"actor": alice, "account_id": account.pk, "destination_id": made.pk}
    operations.update_destination(**where, changes={"timeout_seconds": 3})
    operations.pause_destination(**where)
    operations.resume_destination(**where)
    operations.rotate_signing_secret(**where)
    operations.delete_destination(**where)
    assert heard == [(made.pk, account.pk)] * 6
