"""Does a rate leave out how it began and how it ended?"""

import pytest

from bench import steady

MS = 1_000_000


def test_a_slow_beginning_and_a_slow_end_do_not_count() -> None:
    ramp = [number * 100 * MS for number in range(100)]
    even = [ramp[-1] + number * MS for number in range(1, 901)]
    tail = [even[-1] + number * 100 * MS for number in range(1, 51)]

    assert steady.rate(ramp + even + tail) == pytest.approx(1000, rel=0.02)


@pytest.mark.parametrize(
    "moments",
    [
        [],
        [1],
        [7] * 100,  # all at once
    ],
)
def test_too_little_makes_no_rate(moments) -> None:
    with pytest.raises(ValueError, match="make no rate"):
        steady.rate(moments)


def test_by_turns_each_comes_equally_often_and_none_always_first() -> None:
    assert list(steady.by_turns("ab", 3)) == [(0, "b"), (0, "a"), (1, "a"), (1, "b"), (2, "b"), (2, "a")]
