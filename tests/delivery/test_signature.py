"""The signature is Standard Webhooks 1.0, as others compute and check it."""

import base64
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from delivery import signature

V1_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
V1_ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
V1_BODY = b'{"test": 2432232314}'


def test_the_public_vector_of_the_specification():
    key = signature.parse_secret(V1_SECRET)
    assert (
        signature.sign(V1_ID, 1614265330, V1_BODY, [key]) == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    )


def test_the_public_vector_of_svix():
    key = base64.b64decode(
        "plJ3nmyCDGBKInavdOK15jsl"
    )  # shorter than the specification allows a new one to be
    body = b'{"event_type":"ping","data":{"success":true}}'
    expected = "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0="
    assert signature.sign("msg_loFOjxBNrRLzqYUf", 1731705121, body, [key]) == expected


@given(body=st.text().map(str.encode), key=st.binary(min_size=24, max_size=64))
def test_the_reference_library_accepts_what_we_sign_and_nothing_else(body, key):
    now = int(datetime.now(UTC).timestamp())
    headers = {
        "webhook-id": V1_ID,
        "webhook-timestamp": str(now),
        "webhook-signature": signature.sign(V1_ID, now, body, [key]),
    }
    webhook = Webhook(signature.format_secret(key))
    assert webhook.verify(body, headers, json_parse=False) is None
    with pytest.raises(WebhookVerificationError):
        webhook.verify(body + b" ", headers, json_parse=False)
    with pytest.raises(WebhookVerificationError):
        webhook.verify(body, headers | {"webhook-id": "msg_other"}, json_parse=False)


def test_during_a_rotation_either_key_verifies():
    old, new = b"o" * 32, b"n" * 32
    now = int(datetime.now(UTC).timestamp())
    signed = signature.sign(V1_ID, now, V1_BODY, [new, old])
    headers = {"webhook-id": V1_ID, "webhook-timestamp": str(now), "webhook-signature": signed}
    assert len(signed.split(" ")) == 2
    for key in (new, old):
        assert Webhook(signature.format_secret(key)).verify(V1_BODY, headers) == {"test": 2432232314}


def test_a_new_secret_has_256_bits_and_reads_back():
    secret = signature.make_secret()
    assert secret.startswith("whsec_")
    assert len(signature.parse_secret(secret)) == 32
    assert secret != signature.make_secret()


@given(st.binary(min_size=24, max_size=64))
def test_a_secret_reads_back_with_and_without_padding(key):
    text = signature.format_secret(key)
    assert signature.parse_secret(text) == key
    assert signature.parse_secret(text.rstrip("=")) == key


@pytest.mark.parametrize(
    "text",
    [
        "",  # nothing
        "whsec_",  # no key
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",  # no prefix
        "whsk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",  # another kind
        "whsec_" + base64.b64encode(b"k" * 23).decode(),  # too short
        "whsec_" + base64.b64encode(b"k" * 65).decode(),  # too long
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2La*aSw",  # not base64
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSé",  # not ASCII
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS",  # 31 characters: 23 bytes and a bit
    ],
)
def test_what_is_not_a_secret_is_refused(text):
    with pytest.raises(signature.SecretError):
        signature.parse_secret(text)


@given(st.text(max_size=20))
def test_no_short_text_is_a_secret_nor_any_other_error(text):
    with pytest.raises(signature.SecretError):
        signature.parse_secret("whsec_" + text)
