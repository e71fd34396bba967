"""What the fields' validators let pass. (What the database refuses by itself: test_constraints.)"""

import pytest
from django.core.exceptions import ValidationError

from accounts import validators
from accounts.checks import check_policy
from accounts.models import Account, Destination, User
from tests.accounts.values import BAD, BAD_HEADERS, GOOD, GOOD_HEADERS, SUBTLE, cases

MODELS = {"user": User, "account": Account, "destination": Destination}


def clean(model: str, field: str, value: object) -> None:
    others = {other.name for other in MODELS[model]._meta.fields} - {field}
    MODELS[model](**{field: value}).clean_fields(exclude=others)


@pytest.mark.parametrize(("model", "field", "value"), cases(GOOD))
def test_what_may_be_passes(model, field, value):
    clean(model, field, value)


@pytest.mark.parametrize(("model", "field", "value"), cases(BAD) + cases(SUBTLE))
def test_what_may_not_be_is_refused_in_words(model, field, value):
    with pytest.raises(ValidationError) as refusal:
        clean(model, field, value)
    assert list(refusal.value.message_dict) == [field]
    assert all(refusal.value.messages)


@pytest.mark.parametrize("headers", GOOD_HEADERS)
def test_headers_that_can_be_sent_pass(headers):
    validators.validate_headers(headers)


@pytest.mark.parametrize("headers", BAD_HEADERS)
def test_headers_that_cannot_be_sent_are_refused(headers):
    with pytest.raises(ValidationError) as refusal:
        validators.validate_headers(headers)
    "".join(refusal.value.messages).encode()  # what is said can be sent, whatever came


def test_each_wrong_header_has_its_message_and_no_value_is_echoed():
    with pytest.raises(ValidationError) as refusal:
        validators.validate_headers({"Host": "canary", "X-Good": "canary", "X-Bad": "canary\n"})
    assert [message.partition(":")[0] for message in refusal.value.messages] == ["Host", "X-Bad"]
    assert "canary" not in str(refusal.value)


@pytest.mark.parametrize("role", ["Admin", "Normal user"])
def test_the_two_roles_pass(role):
    validators.validate_role(role)


@pytest.mark.parametrize("role", ["", "admin", "Owner", "ADMIN", "1"])
def test_another_role_is_refused(role):
    with pytest.raises(ValidationError):
        validators.validate_role(role)


def test_the_operator_opens_addresses(settings):
    settings.DESTINATION_ALLOW = []
    with pytest.raises(ValidationError):
        validators.validate_url("http://10.1.2.3:8080/")
    settings.DESTINATION_ALLOW = ["10.0.0.0/8:8080"]
    validators.validate_url("http://10.1.2.3:8080/")
    with pytest.raises(ValidationError):
        validators.validate_url("http://10.1.2.3:8081/")


def test_a_wrong_range_is_said_at_start(settings):
    assert check_policy() == []
    settings.DESTINATION_ALLOW = ["10.0.0.0/33"]
    assert [message.id for message in check_policy()] == ["accounts.E001"]


def test_addresses_are_compared_without_regard_to_case():
    assert validators.normalise_email(" A@B.Co ") == "a@b.co"
    validators.validate_email("UPPER@Example.COM")
    assert validators.normalise_email("İ@b.co") == "İ@b.co"  # lower() would make two characters of it
