"""Which headers a destination may be given, and which of them are secret."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard import headers

ACCEPTED = [
    ({}, "none"),
    ({"APP_ID": "1234APPID1234"}, "the user's own example"),
    ({"Content-Type": "application/json", "Accept": "*/*"}, "the user's own example"),
    ({"Authorization": "Bearer abc.def"}, "a secret"),
    ({"X-A": "a b\tc"}, "spaces and tabs inside"),
    ({"!#$%&'*+-.^_`|~09az": "every token character"}, "an odd but valid name"),
    ({"X-Forwarded": "1"}, "not one of x-forwarded-*"),
    ({f"X-{n}": "v" for n in range(20)}, "as many as may be"),
    ({"X-A": "v" * (16 * 1024 - 3)}, "as long as may be"),
]

REFUSED = [
    ({"": "v"}, "no name"),
    ({"X A": "v"}, "space in the name"),
    ({"X:A": "v"}, "colon in the name"),
    ({"X-A\r\nX-B": "v"}, "line end in the name"),
    ({"X-É": "v"}, "not ASCII"),
    ({"X-A": ""}, "no value"),
    ({"X-A": " v"}, "leading space"),
    ({"X-A": "v\t"}, "tab at the end"),
    ({"X-A": "a\r\nX-B: b"}, "line end"),
    ({"X-A": "a\nb"}, "half a line end"),
    ({"X-A": "a\x00b"}, "NUL"),
    ({"X-A": "a\x7fb"}, "DEL (httpx sends it)"),
    ({"X-A": "é"}, "not ASCII"),
    ({"X-A": 5}, "not a text"),
    ({"X-A": None}, "not a text"),
    ({"X-A": "1", "x-a": "2"}, "the same name twice"),
    *(
        ({name: "v"}, "reserved")
        for name in (
            "Host", "hOST", "Content-Length", "Transfer-Encoding", "TE", "Trailer", "Connection",
            "Keep-Alive", "Upgrade", "Expect", "Proxy-Authorization", "Proxy-Connection", "Forwarded",
            "X-Forwarded-For", "X-Forwarded-Host", "Cookie", "Webhook-Id", "webhook-signature", "CL-X-TOKEN",
            "cl-x-event-id", "Sec-Fetch-Site", "Metadata-Flavor", "X-Goog-Any",
            "X-aws-ec2-metadata-token",
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize(("given_headers", "why"), ACCEPTED, ids=[why for _, why in ACCEPTED])
def test_honest_headers_are_accepted(given_headers, why):
    assert headers.check(given_headers) is None, why


@pytest.mark.parametrize(
    ("given_headers", "why"), REFUSED, ids=[f"{why}-{next(iter(row))!r}" for row, why in REFUSED]
)
def test_a_header_that_can_not_be_sent_is_named(given_headers, why):
    with pytest.raises(headers.Refused) as refused:
        headers.check(given_headers)
    assert set(refused.value.errors) <= set(given_headers), why
    assert all(refused.value.errors.values())


def test_too_many_headers_and_too_many_bytes_are_refused():
    with pytest.raises(headers.Refused, match="at most 20"):
        headers.check({f"X-{n}": "v" for n in range(21)})
    with pytest.raises(headers.Refused, match="bytes"):
        headers.check({"X-A": "v" * (16 * 1024 - 2)})


def test_each_bad_header_has_its_own_error():
    with pytest.raises(headers.Refused) as refused:
        headers.check({"Host": "a", "X-Good": "b", "X-Bad": "\n"})
    assert sorted(refused.value.errors) == ["Host", "X-Bad"]


@pytest.mark.parametrize(
    "name",
    ["Authorization", "X-Auth-Token", "APP_SECRET", "X-API-Key", "Password", "Set-Cookie", "x-secret-id"],
)
def test_a_name_that_speaks_of_secrets_is_secret(name):
    assert headers.is_secret(name)


@pytest.mark.parametrize("name", ["Accept", "Content-Type", "APP_ID", "X-Request-Id"])
def test_an_ordinary_name_is_not_secret(name):
    assert not headers.is_secret(name)


@given(st.dictionaries(st.text(), st.text(), max_size=30))
def test_any_headers_are_accepted_or_refused_and_nothing_else(given_headers):
    try:
        headers.check(given_headers)
    except headers.Refused:
        return
    assert "".join([*given_headers, *given_headers.values()]).replace("\t", "").isprintable()
