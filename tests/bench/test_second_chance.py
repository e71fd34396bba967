"""What misses a target is measured once more, and nobody is deceived by that."""

from types import SimpleNamespace

import pytest

import bench.__main__ as command
from bench import results
from bench.run import Figure, Wrong


def measuring(*rates, failure=None, floor=8000.0):
    """A stand-in for bench.figures.deliveries: each time the next rate, at last the failure."""
    left = list(rates)

    def measure(run):
        if not left:
            raise failure
        run.record(Figure("deliveries.2", "deliveries/s", left.pop(0), "1/s", floor=floor))

    return SimpleNamespace(NAME="deliveries", measure=measure, left=left)


@pytest.fixture
def measured(monkeypatch, tmp_path):
    def _measured(module, mode="standard"):
        monkeypatch.setattr(command, "_chosen", lambda *_: [module])
        status = command.measure(mode, only=["deliveries"], folder=tmp_path, scratch=tmp_path / "scratch")
        (file,) = tmp_path.glob("*.json")
        return status, results.load(file)

    return _measured


def test_the_second_value_counts_and_the_first_is_told(measured, capsys) -> None:
    status, result = measured(measuring(3400.0, 4200.0))

    assert status == 0
    assert [one.value for one in result.figures] == [4200]
    assert [one.value for one in result.at_first] == [3400]
    told = "at first missed: deliveries/s by two drains: 3,400, asked >= 4,000"
    assert told in capsys.readouterr().out
    assert told[len("at first ") :] in results.part(result, "name")


def test_there_is_no_third(measured) -> None:
    module = measuring(3400.0, 3300.0, 4200.0)
    status, result = measured(module)

    assert (status, module.left) == (1, [4200])
    assert [one.value for one in result.figures] == [3300]


def test_a_slow_machine_gets_its_second_chance_too(measured) -> None:
    status, result = measured(measuring(3400.0, 3500.0, floor=6000.0))

    assert status == 0
    assert [one.value for one in (*result.at_first, *result.figures)] == [3400, 3500]
    assert "This one did 6,000 in the same run: 0.583 of it is kept, asked 0.533." in results.part(
        result, "name"
    )


def test_what_meets_its_targets_is_measured_once(measured) -> None:
    status, result = measured(measuring(4200.0, failure=AssertionError))
    assert (status, list(result.at_first), dict(result.failed)) == (0, [], {})


def test_a_quick_run_stays_quick(measured) -> None:
    status, result = measured(measuring(3400.0, 4200.0), mode="quick")
    assert (status, [one.value for one in result.figures]) == (1, [3400])


def test_a_figure_that_failed_gets_no_second_chance(measured) -> None:
    def measure(run):
        run.record(Figure("deliveries.2", "deliveries/s", 3400.0, "1/s"))
        module.times += 1
        raise Wrong("one event is missing")

    module = SimpleNamespace(NAME="deliveries", measure=measure, times=0)
    status, result = measured(module)
    assert (status, module.times, dict(result.failed)) == (
        1,
        1,
        {"deliveries": "Wrong: one event is missing"},
    )
