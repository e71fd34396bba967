"""Tokens: what parses, and how sure that is."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounts import tokens

ALPHABET = string.digits + string.ascii_letters
MADE = tokens.make()


@given(st.builds(tokens.make))
def test_a_made_token_parses_to_what_is_stored(made):
    parsed = tokens.parse(made.text)
    assert parsed == tokens.PresentedToken(key_id=made.key_id, digest=made.digest)
    assert len(made.text) == 66
    assert made.text.startswith(f"clx_{made.key_id}_")


@given(st.integers(0, len(MADE.text) - 1), st.characters())
def test_one_changed_character_never_parses(place, character):
    changed = MADE.text[:place] + character + MADE.text[place + 1 :]
    assert (tokens.parse(changed) is None) == (changed != MADE.text)


@given(st.text(max_size=200) | st.text(ALPHABET + "_", min_size=66, max_size=66))
def test_other_text_never_parses_and_never_raises(text):
    assert tokens.parse(text) is None
    assert tokens.parse_access(text) is None


@given(st.integers(0, len(MADE.text) - 2))
def test_two_swapped_characters_never_parse(place):
    text = list(MADE.text)
    text[place], text[place + 1] = text[place + 1], text[place]
    assert (tokens.parse("".join(text)) is None) == ("".join(text) != MADE.text)


@pytest.mark.parametrize(
    "wrong",
    [
        MADE.text + "\n",  # `$` would let it pass
        " " + MADE.text,
        MADE.text[:-1],
        MADE.text + "0",
        MADE.text.upper(),
        f"{MADE.text},{MADE.text}",  # a repeated header, joined
        MADE.text.replace("_", "-"),
        "",
        "é" * 66,
        "\ud800" * 66,
        "9" * 5_000_000,  # refused by its length, before anything else
    ],
)
def test_what_is_not_exactly_a_token_is_refused(wrong):
    assert tokens.parse(wrong) is None


KINDS = [
    (tokens.make, tokens.parse),
    (tokens.make_access, tokens.parse_access),
    (tokens.make_invitation, tokens.parse_invitation),
]


@pytest.mark.parametrize("make", [make for make, _ in KINDS])
def test_a_token_is_of_one_kind(make):
    text = make().text
    assert [parse(text) is not None for _, parse in KINDS] == [make is maker for maker, _ in KINDS]


def test_the_hint_says_nothing_of_the_secret():
    made = tokens.make()
    assert made.hint == f"clx_{made.key_id}_..."
    assert made.text[17:] not in made.hint


def test_tokens_differ():
    assert len({tokens.make().text for _ in range(1000)}) == 1000
