"""What an answer means, and what is kept of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery import outcome
from delivery.outcome import Reason

NOW = 784_111_777.0  # Sun, 06 Nov 1994 08:49:37 GMT


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (200, Reason.DELIVERED),
        (202, Reason.DELIVERED),
        (299, Reason.DELIVERED),
        (301, Reason.REDIRECT),
        (304, Reason.REDIRECT),
        (400, Reason.CLIENT_ERROR),
        (404, Reason.CLIENT_ERROR),
        (410, Reason.GONE),
        (429, Reason.THROTTLED),
        (500, Reason.SERVER_ERROR),
        (503, Reason.SERVER_ERROR),
        (101, Reason.PROTOCOL),  # nobody asked to switch protocols
        (600, Reason.PROTOCOL),  # no such class
        (999, Reason.PROTOCOL),
    ],
)
def test_a_status_has_its_reason(status, reason):
    assert outcome.of_status(status) is reason


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        (" 7\t", 7),
        ("0", 0),
        ("86401", 86_400),  # at most a day
        ("999999999999", 86_400),
        ("Sun, 06 Nov 1994 08:50:37 GMT", 60),
        ("Sunday, 06-Nov-94 08:50:37 GMT", 60),  # the obsolete form of RFC 850
        ("Sun Nov  6 08:50:37 1994", 60),  # of asctime
        ("Sun, 06 Nov 1994 08:49:00 GMT", 0),  # has passed
        ("Sun, 06 Nov 2094 08:49:37 GMT", 86_400),
        (None, None),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("1e9", None),
        ("NaN", None),
        ("9" * 13, None),  # longer than any honest number
        ("9" * 100_000, None),
        ("\u0661\u0662", None),  # digits of another script
        ("soon", None),
        ("Sun, 99 Nov 1994 08:49:37 GMT", None),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None),
        ("\x00", None),
    ],
)
def test_retry_after_is_read_or_ignored(value, seconds):
    assert outcome.retry_after(value, now=NOW) == seconds


@given(st.text(), st.floats(0, 1e11))
def test_no_retry_after_raises(value, now):
    result = outcome.retry_after(value, now=now)
    assert result is None or 0 <= result <= 86_400


@given(st.text())
def test_a_detail_is_one_short_line_of_ascii(text):
    cleaned = outcome.clean(text)
    assert len(cleaned) <= 200
    assert cleaned.isascii()
    assert cleaned.isprintable()


def test_a_detail_keeps_its_words():
    assert outcome.clean("no\x00connection:\r\nrefused\x1b[31m \u202e!") == "no connection: refused [31m !"
    assert len(outcome.clean("x" * 1_000)) == 200


@pytest.mark.parametrize(("status", "words"), [(204, ""), (404, "404 Not Found"), (599, "599")])
def test_a_status_is_described_in_the_words_of_the_standard(status, words):
    assert outcome.describe(status) == words
