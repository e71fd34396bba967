"""Is a figure that is too low, too high, or not there told apart from one that will do?"""

import pytest

from bench.run import Figure
from bench.targets import OPERATORS, Target, judge, targets


def figure(key: str = "rate", value: float = 90, **more) -> Figure:
    return Figure(key, key, value, "1/s", **more)


@pytest.mark.parametrize(
    ("of", "op", "asked", "word"),
    [
        ("value", ">=", 90, "met"),
        ("value", ">", 90, "missed"),
        ("value", "<=", 90, "met"),
        ("value", "<", 90, "missed"),
        ("ratio", ">=", 0.5, "missed"),  # 90 of 200
        ("ratio", ">=", 0.45, "met"),
        ("p99", "<", 30, "missed"),
        ("p50", "<", 6, "met"),
        ("memory.worker", "<", 200, "met"),
        ("cpu.web", "<", 100, "missed"),
        ("more.dead_tuples", "<", 8, "met"),
        ("p999", "<", 1e9, "missed"),  # the figure has no such number: no typing error passes
        ("memory.wroker", "<", 1e9, "missed"),
    ],
)
def test_each_number_of_a_figure_can_be_asked_for(of, op, asked, word) -> None:
    measured = figure(
        floor=200,
        percentiles={"p50": 5, "p99": 31},
        memory={"worker": 150},
        cpu={"web": 120},
        more={"dead_tuples": 7},
    )

    (verdict,) = judge([measured], [Target("a target", "rate", op, asked, of=of)])

    assert verdict.word == word


def test_a_miss_that_is_argued_is_none() -> None:
    target = Target("a target", "rate", ">=", 100, argued="the disk takes 95 commits a second")

    (verdict,) = judge([figure()], [target])

    assert (verdict.word, verdict.is_missed) == ("argued", False)
    assert "the disk takes 95" in str(verdict)


@pytest.mark.parametrize(
    ("value", "floor", "word"),
    [
        (100, 150, "met"),
        (50, 100, "argued"),  # half of what the machine can do itself, as asked of one that does 200
        (49, 100, "missed"),
        (99, 200, "missed"),  # the machine is as fast as it should be
        (99, 199, "missed"),  # less than half of it
        (99, 190, "argued"),
        (99, None, "missed"),
    ],
)
def test_a_slower_machine_is_asked_for_the_same_share(value, floor, word) -> None:
    target = Target("a target", "rate", ">=", 100, machine=200)

    (verdict,) = judge([figure(value=value, floor=floor)], [target])

    assert verdict.word == word
    assert verdict.is_unexpected == (word != "met")


def test_what_the_figure_does_not_have_is_not_argued_away() -> None:
    (verdict,) = judge([figure()], [Target("a target", "rate", "<", 1, of="p99", argued="because")])

    assert verdict.is_missed


def test_a_pattern_judges_the_worst() -> None:
    figures = [figure("a", memory={"worker": 150}), figure("b", memory={"worker": 210}), figure("c")]

    (verdict,) = judge(figures, [Target("memory", "*", "<", 200, of="memory.worker")])

    assert (verdict.figure, verdict.measured, verdict.word) == ("b", 210, "missed")


@pytest.mark.parametrize("pattern", ["rates", "ra*e.of"])
def test_a_figure_that_was_not_measured_is_judged_only_where_all_should_be(pattern) -> None:
    wanted = [Target("a target", pattern, ">=", 1)]

    assert judge([figure()], wanted) == []
    assert [one.word for one in judge([figure()], wanted, complete=True)] == ["missed"]


def test_the_targets_are_well_formed() -> None:
    wanted = targets()

    assert len(wanted) >= 20
    assert {one.op for one in wanted} <= OPERATORS.keys()
    assert len({(one.figure, one.of) for one in wanted}) == len(wanted)
