"""Does the demo's receiver believe what is signed, and nothing else?"""

import base64

import pytest
from standardwebhooks import Webhook

from demo.signature import TOLERANCE_SECONDS, Verdict, check

# The public vector of Standard Webhooks.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = b'{"test": 2432232314}'
SENT = 1614265330
HEADERS = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": str(SENT),
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}
RIGHT = HEADERS["webhook-signature"]


def test_the_public_vector_is_valid() -> None:
    assert check(SECRET, HEADERS, BODY, now=SENT) is Verdict.VALID


def test_what_the_reference_library_signs_is_valid() -> None:
    from datetime import UTC, datetime

    body = '{"é": "\\u0000"}'
    signed = Webhook(SECRET).sign("msg_1", datetime.fromtimestamp(SENT, UTC), body)
    headers = {**HEADERS, "webhook-id": "msg_1", "webhook-signature": signed}

    assert check(SECRET, headers, body.encode(), now=SENT) is Verdict.VALID


@pytest.mark.parametrize(
    "signatures",
    [
        f"v1,AAAA {RIGHT}",  # the old secret beside the new one
        f"v1a,ed25519 {RIGHT} v2,x",  # other versions are passed over
        f"v1,{'=' * 7} {RIGHT}",  # junk first
    ],
)
def test_one_right_signature_among_several_is_enough(signatures: str) -> None:
    assert check(SECRET, HEADERS | {"webhook-signature": signatures}, BODY, now=SENT) is Verdict.VALID


@pytest.mark.parametrize(
    "changed",
    [
        {"webhook-id": "msg_other"},
        {"webhook-timestamp": str(SENT + 1)},
        {"webhook-signature": RIGHT.replace("g0", "g1")},
        {"webhook-signature": RIGHT.removeprefix("v1,")},  # without its version
        {"webhook-signature": RIGHT.replace("v1", "v2")},
        {"webhook-signature": "v1,"},
        {"webhook-signature": "v1,é"},  # no base64 at all
    ],
)
def test_anything_changed_is_wrong(changed: dict[str, str]) -> None:
    assert check(SECRET, HEADERS | changed, BODY, now=SENT) is Verdict.WRONG


def test_another_body_and_another_secret_are_wrong() -> None:
    other = "whsec_" + base64.b64encode(b"x" * 24).decode()

    assert check(SECRET, HEADERS, BODY + b" ", now=SENT) is Verdict.WRONG
    assert check(other, HEADERS, BODY, now=SENT) is Verdict.WRONG


@pytest.mark.parametrize("seconds", [-TOLERANCE_SECONDS - 1, TOLERANCE_SECONDS + 1])
def test_a_timestamp_too_far_from_now_is_old(seconds: int) -> None:
    assert check(SECRET, HEADERS, BODY, now=SENT + seconds) is Verdict.OLD


@pytest.mark.parametrize("timestamp", ["soon", "-1", "1.5", "١٢٣"])
def test_a_timestamp_that_is_no_number_is_old(timestamp: str) -> None:
    assert check(SECRET, HEADERS | {"webhook-timestamp": timestamp}, BODY, now=SENT) is Verdict.OLD


@pytest.mark.parametrize("name", list(HEADERS))
def test_a_missing_or_empty_header_is_not_signed(name: str) -> None:
    without = {key: value for key, value in HEADERS.items() if key != name}

    assert check(SECRET, without, BODY, now=SENT) is Verdict.MISSING
    assert check(SECRET, HEADERS | {name: ""}, BODY, now=SENT) is Verdict.MISSING
