"""Does a result come back from its file as it was, and say in the table what it says?"""

import re
import xml.etree.ElementTree as ET
from io import StringIO

import pytest
from rich.console import Console

from bench import plots, results
from bench.run import Figure, Run, Wrong
from bench.targets import Target, judge


def sample() -> list[Figure]:
    accepts = [
        Figure(
            f"accepts.{connections}.1KB.1",
            f"accepts/s, {connections} connections, 1 KB",
            value=value,
            unit="1/s",
            floor=4 * value,
            floor_label="bare server",
            percentiles={"p50": 1.25, "p99": 20},
            cpu={"web": 120.4, "postgres": 88},
            memory={"web": 96.1},
        )
        for connections, value in ((1, 700.0), (16, 3500), (256, 6100))
    ]
    pickup = Figure("pickup", "idle pick-up", 4.1, "ms", percentiles={"p50": 4.1, "p99": 12}, note="a | b")
    return [*accepts, pickup]


def result(**changed) -> results.Result:
    told = {
        "mode": "quick",
        "date": "2026-01-02T03:04:05+00:00",
        "seconds": 61.5,
        "commit": "abcdef012",
        "machine": {"CPU": "a processor", "cores": "2"},
        "versions": {"Python": "3.13.0"},
        "load_before": 0.1,
        "figures": sample(),
        "verdicts": [],
    }
    return results.Result(**told | changed)


def test_a_result_comes_back_from_its_file(tmp_path) -> None:
    saved = result(failed={"logs": "Wrong: gone"}, only=["accepts"])

    file = saved.save(tmp_path)
    again = results.load(file)

    assert file.name == "2026-01-02-0304-abcdef012-quick.json"
    assert again.figures == saved.figures
    assert (again.failed, again.only, again.machine) == (saved.failed, saved.only, saved.machine)
    assert {one.target.figure for one in again.verdicts} == {"accepts.256.1KB.1", "pickup"} | {"*"}
    assert not again.is_good


def test_the_table_has_every_number_of_a_figure() -> None:
    wanted = [
        Target("enough", "accepts.256.1KB.1", ">=", 6000),
        Target("near the floor", "accepts.256.1KB.1", ">=", 0.5, of="ratio"),
        Target("small", "*", "<", 90, of="memory.web", argued="a reason"),
    ]

    told = "\n\n".join(results.tables(result(verdicts=judge(sample(), wanted))))

    assert (
        "| accepts/s, 256 connections, 1 KB | 6,100/s | 24,400 (bare server) | 0.25 | 1.25 / 20 "
        "| web 120, postgres 88 | web 96.1 | >= 6,000; ratio >= 0.5 | yes; **missed** |"
    ) in told
    assert "- argued: small: 96.1, asked memory.web < 90 (a reason)" in told
    assert "a \\| b" in told  # a cell stays one cell


def test_publishing_replaces_what_was_made_before_and_nothing_else(tmp_path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"# before\n{results.BEGIN}old\n{results.END}after\n")
    front = tmp_path / "FRONT.md"
    front.write_text(f"# before\n{results.BEGIN}old\n{results.END}after\n")
    made = result()

    for _ in range(2):
        results.publish(made, made.save(tmp_path / "elsewhere"), readme=readme, front=front)
    assert front.read_text() == f"# before\n{results.BEGIN}{results.headlines(made)}{results.END}after\n"
    assert "| accepts/s, 256 connections, 1 KB | 6,100/s | 24,400 (bare server) | 0.25 |" in front.read_text()

    text = readme.read_text()
    assert text == f"# before\n{results.BEGIN}{results.part(made, made.file_name)}{results.END}after\n"
    for picture in re.findall(r"!\[.*\]\((.*)\)", text):
        ET.parse(tmp_path / picture)  # noqa: S314 - our own
    assert text.count("![") == 2


def test_the_readme_says_what_the_file_that_it_names_says() -> None:
    text = results.README.read_text()
    _, _, rest = text.partition(results.BEGIN)
    shown, end, _ = rest.partition(results.END)
    assert end
    named = re.search(r"\]\(results/(.*\.json)\)", shown)
    if named is None:
        assert not shown
        return

    file = results.FOLDER / named[1]
    told = results.load(file)

    assert shown == results.part(told, file.name)
    assert f"{results.BEGIN}{results.headlines(told)}{results.END}" in results.FRONT.read_text()
    for name, svg in plots.of(told.figures).items():
        assert (results.FOLDER / name).read_text() == svg


def test_the_pictures_label_every_line_and_bar() -> None:
    pictures = plots.of(sample())

    texts = [[one.text for one in ET.fromstring(svg).findall("{*}text")] for svg in pictures.values()]  # noqa: S314
    assert {"1 KB, 1 destination", "bare server, 1 KB", "1", "16", "256"} <= set(texts[0])
    assert {"idle pick-up", "4.1", "12"} <= set(texts[1])


def test_no_picture_is_drawn_of_nothing() -> None:
    assert plots.of([Figure("other", "other", 1, "1/s")]) == {}


def test_a_figure_is_refused_when_a_check_fails(tmp_path) -> None:
    said = StringIO()
    with Run("quick", scratch=tmp_path, console=Console(file=said)) as run:
        run.record(sample()[0])

        def died() -> None:
            raise Wrong("web ended with status 1")

        run.checks.append(died)
        with pytest.raises(Wrong):
            run.record(sample()[1])

        assert [one.key for one in run.figures] == ["accepts.1.1KB.1"]
        assert run.folder.exists()
    assert list(tmp_path.iterdir()) == []
    assert "accepts/s, 1 connections, 1 KB: 700/s; floor 2,800 (bare server), ratio 0.25" in said.getvalue()
