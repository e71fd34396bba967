"""What is sent: the event's bytes, or its members as a query, with the headers that say whose it is."""

import json
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery import message, signature
from delivery.message import Invalid
from tests.delivery import sending

URL = "https://hooks.site.com/in"


def compose(body, *, now=1_700_000_000, event_id="e-1", attempt=1, **changes):
    return message.compose(
        sending.message(body=body, event_id=event_id, attempt=attempt),
        sending.target(**({"url": URL} | changes)),
        now=now,
    )


def query_of(body, url=URL):
    return compose(body, method="GET", url=url).url.partition("?")[2]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_the_bytes_go_out_as_they_came_in(method):
    body = b'{ "b" : 1e2,\n"a":1.10, "a": "\\u00e9\xc3\xa9" }'
    composed = compose(body, method=method, url=URL + "?x=%41")
    assert (composed.method, composed.url, composed.body) == (method, URL + "?x=%41", body)
    assert dict(composed.headers)["webhook-signature"] == signature.sign(
        str(sending.DELIVERY_ID), 1_700_000_000, body, [sending.SECRET]
    )


def test_the_headers_say_which_delivery_event_and_attempt():
    headers = dict(compose(b"{}", event_id="client/7", attempt=3, headers=(("APP_ID", "1234"),)).headers)
    signed = headers.pop("webhook-signature")
    assert headers == {
        "APP_ID": "1234",
        "webhook-id": str(sending.DELIVERY_ID),
        "webhook-timestamp": "1700000000",
        "CL-X-EVENT-ID": "client/7",
        "CL-X-ATTEMPT": "3",
        "Content-Type": "application/json",
        "User-Agent": "DataPusher/1",
        "Accept-Encoding": "identity",
    }
    assert signed.startswith("v1,")


def test_each_key_signs_during_a_rotation():
    composed = compose(b"{}", secrets=(b"n" * 32, b"o" * 32))
    assert len(dict(composed.headers)["webhook-signature"].split(" ")) == 2


@pytest.mark.parametrize("name", ["Content-Type", "content-type", "USER-AGENT", "accept-encoding"])
def test_a_destination_may_set_its_own(name):
    composed = compose(b"{}", headers=((name, "mine"),))
    assert [value for key, value in composed.headers if key.lower() == name.lower()] == ["mine"]


def test_a_get_has_no_body_and_no_content_type_of_ours():
    composed = compose(b'{"a": 1}', method="GET")
    assert composed.body is None
    assert "content-type" not in {name.lower() for name, _ in composed.headers}
    own = compose(b"{}", method="GET", headers=(("Content-Type", "text/plain"),))
    assert ("Content-Type", "text/plain") in own.headers


def test_a_get_signs_the_query_that_is_on_the_request_line():
    composed = compose(b'{"a": "x y"}', method="GET", url=URL + "?own=%2F")
    assert composed.url == URL + "?own=%2F&a=x%20y"
    assert dict(composed.headers)["webhook-signature"] == signature.sign(
        str(sending.DELIVERY_ID), 1_700_000_000, b"own=%2F&a=x%20y", [sending.SECRET]
    )


QUERIES = [
    (b"{}", [], "no members"),
    (b' { \n } ', [], "no members, much space"),
    (b'{"a": "b"}', [("a", "b")], "a string as it is"),
    (b'{"a": "x y&z=1+2#%"}', [("a", "x y&z=1+2#%")], "reserved characters"),
    (b'{"a": ""}', [("a", "")], "an empty string"),
    (b'{"": "b"}', [("", "b")], "an empty name"),
    (b'{"a": "\\u00e9\\n\\ud83d\\ude00"}', [("a", "é\n😀")], "escapes are read"),
    ('{"ключ": "значение"}'.encode(), [("ключ", "значение")], "not ASCII"),
    (b'{"a": "123"}', [("a", "123")], "a string that looks like a number"),
    (b'{"a": 1e2, "b": 1.10, "c": -0}', [("a", "1e2"), ("b", "1.10"), ("c", "-0")], "numbers as written"),
    (b'{"a": 123456789012345678901234567890}', [("a", "123456789012345678901234567890")], "beyond 64 bits"),
    (b'{"a": 0.10000000000000000555111}', [("a", "0.10000000000000000555111")], "digits"),
    (b'{"a": true, "b": false, "c": null}', [("a", "true"), ("b", "false"), ("c", "null")], "words"),
    (b'{"a": 1, "b": 2, "a": 3}', [("a", "1"), ("b", "2"), ("a", "3")], "repeated names, in order"),
    (b'{"z": 1, "a": 2}', [("z", "1"), ("a", "2")], "the order of the event"),
    (b'{"a": [ 1 , 2.0 ], "b": { }}', [("a", "[1,2.0]"), ("b", "{}")], "compact JSON"),
    (b'{"a": {"k" : [true, null, "x y"]}}', [("a", '{"k":[true,null,"x y"]}')], "spaces in strings stay"),
    (b'{"a": {"b": 1, "b": 2}}', [("a", '{"b":1,"b":2}')], "repeated names inside"),
    (b'{"a": ["]", "}", ",", "\\"", "\\\\"]}', [("a", '["]","}",",","\\"","\\\\"]')], "in strings"),
    (b'{"a\\"b": "c\\\\", "d": 1}', [('a"b', "c\\"), ("d", "1")], "escaped quotes"),
    (b'{"a": ["\\u00e9"]}', [("a", '["\\u00e9"]')], "escapes inside stay as written"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "expected", "why"), QUERIES, ids=[row[2] for row in QUERIES])
def test_members_become_query_parameters(body, expected, why):
    assert parse_qsl(query_of(body), keep_blank_values=True, strict_parsing=bool(expected)) == expected, why


@pytest.mark.parametrize(
    ("url", "composed"),
    [
        (URL, URL + "?a=1"),  # none of its own
        (URL + "?", URL + "?a=1"),  # an empty query
        (URL + "?b=2", URL + "?b=2&a=1"),  # some
        (URL + "?b=2&", URL + "?b=2&a=1"),  # an open end
        (URL + "?b", URL + "?b&a=1"),  # one without a value
    ],
)
def test_members_follow_the_query_of_the_url(url, composed):
    assert compose(b'{"a": 1}', method="GET", url=url).url == composed


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(event=st.dictionaries(st.text(), values, max_size=6), indent=st.none() | st.integers(0, 3))
def test_any_event_is_read_back_from_its_query(event, indent):
    body = json.dumps(event, ensure_ascii=False, indent=indent).encode()
    read = parse_qsl(query_of(body), keep_blank_values=True)
    assert [name for name, _ in read] == list(event)
    for (_, text), value in zip(read, event.values(), strict=True):
        assert text == value if isinstance(value, str) else json.loads(text) == value
    assert query_of(body).isascii()


@pytest.mark.parametrize(
    "body",
    [
        b"",  # nothing
        b"[1]",  # not an object
        b'"a"',  # not an object
        b"\xff",  # not text
        b'{"a": 1',  # half an object
        b'{"a": NaN}',  # not JSON
        b'{"a": "\\ud800"}',  # half a character
        b'{"a": "\xed\xa0\x80"}',  # the same in bytes
        b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",  # deeper than any stack
        b'{"a": ' + b"9" * 100_000 + b"}",  # longer than any number
    ],
)
def test_an_event_that_can_not_become_a_query_is_invalid(body):
    with pytest.raises(Invalid):
        query_of(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": "' + b"x" * 64_000 + b'"}',  # one long string
        b'{"' + b"x" * 64_000 + b'": 1}',  # one long name
        ('{"a": "' + "é" * 11_000 + '"}').encode(),  # six characters for each
        b"{" + b",".join(b'"%d": 1' % n for n in range(20_000)) + b"}",  # many members
        b'{"a": [' + b"[]," * 300_000 + b"1]}",  # much structure
    ],
)
def test_a_url_of_more_than_64000_characters_is_invalid(body):
    with pytest.raises(Invalid, match="64000"):
        query_of(body)


def test_a_url_of_64000_characters_is_sent():
    room = 64_000 - len(URL) - len("?a=")
    assert len(compose(b'{"a": "%s"}' % (b"x" * room), method="GET").url) == 64_000
    with pytest.raises(Invalid):
        compose(b'{"a": "%s"}' % (b"x" * (room + 1)), method="GET")


def test_much_space_is_no_length():
    assert query_of(b'{"a":' + b" " * 1_000_000 + b"1}") == "a=1"


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "TRACE", "get", "POST\r\n", ""])
def test_another_method_is_invalid(method):
    with pytest.raises(Invalid, match="method"):
        compose(b"{}", method=method)


@pytest.mark.parametrize("event_id", ["", "a b", "a\r\nX-B: c", "é", "x" * 129])
def test_an_event_id_that_no_header_can_carry_is_invalid(event_id):
    with pytest.raises(Invalid, match="id"):
        compose(b"{}", event_id=event_id)
