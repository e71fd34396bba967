"""Does the command know every figure, and does every figure say when it is measured?"""

import importlib
from pathlib import Path

import pytest

from bench.__main__ import FIGURES, main
from bench.run import MODES

FOLDER = Path(__file__).resolve().parents[2] / "bench" / "figures"


def test_each_module_is_a_figure_of_the_command() -> None:
    assert sorted(FIGURES) == sorted(file.stem for file in FOLDER.glob("[!_]*.py"))


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_says_when_it_is_measured(name) -> None:
    module = importlib.import_module(f"bench.figures.{name}")

    assert name == module.NAME
    assert set(MODES) >= module.MODES
    assert "long" in module.MODES
    assert callable(module.measure)


def test_without_wrk_it_says_what_to_install(monkeypatch, capsys) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    assert main(["quick"]) == 2
    assert "apt-get install wrk" in capsys.readouterr().err


def test_an_unknown_figure_is_refused(capsys) -> None:
    with pytest.raises(SystemExit):
        main(["quick", "--only", "accepts,acepts"])

    assert "no figure is named acepts" in capsys.readouterr().err
