"""The page "What reviewing does": made of the studies' files alone, and up to date."""

from __future__ import annotations

import re
import runpy
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from tskd_tune.studies import STUDIES, chapter
from tskd_tune.studies.claims import CLAIMS
from tskd_tune.studies.found import Chart, Figure, Found, Made, NamedTable, StudyFile, Table, read_found
from tskd_tune.studies.still import still

DOCS = Path(__file__).parents[2] / "docs"
AGAIN = f"write the page again: {chapter.COMMAND}"
NUMBERS = Table(
    ("forecast", "network", "epoch", "skill", "low", "high"),
    (
        ("ARIMA <1>", "cnn", 1, 0.5, 0.25, 0.75),
        ("ARIMA <1>", "mlp", 2, 5.0, None, None),
        ("drift", "cnn", 1, 50.0, 40.0, 60.0),
        ("drift", "mlp", 2, None, None, None),
    ),
)


def figure(**chart) -> Figure:
    return Figure("skill", "Skill & seeds", "It says.", NUMBERS, Chart(y="skill", low="low", high="high", **chart))


def study(name: str, command: str = "tskd-tune study", sentence: str = "It is so.", **found) -> StudyFile:
    counted = Table(("what", "number"), (("failed fits", 0), ("dead units", found.get("dead", 0))))
    whole = Found((sentence,), found.get("figures", ()), found.get("tables", ()), counted)
    return StudyFile(Made(name, "It asks.", f"{command} {name}", {"seeds": None}), whole)


def numbers(page: str) -> set[str]:
    """Return the numbers of a page's prose and tables: not those of code, of links, and of names such as `table5`."""
    page = re.sub(r"```.*?```|`[^`]*`|\]\([^)]*\)", "", page, flags=re.DOTALL)
    return set(re.findall(r"(?<![A-Za-z_\d.])\d+(?:\.\d+)*(?:e[-+]?\d+)?", page))


def test_the_page_and_its_pictures_are_those_of_the_files() -> None:
    files = [read_found(path) for path in sorted((DOCS / "studies").glob("*.json"))]
    made = chapter.pages(files)
    kept = {path.relative_to(DOCS).as_posix(): path for path in (DOCS / "studies").glob("*.svg")}
    kept[chapter.PAGE] = DOCS / chapter.PAGE
    assert set(made) == set(kept), AGAIN
    for name, path in kept.items():
        assert path.read_text("utf-8") == made[name], f"{name}: {AGAIN}"
    for file in files:
        assert file.made.study in STUDIES.names() and "--output" not in file.made.command
        assert file.found.sentences and file.made.options


def test_each_number_of_the_page_is_in_a_file() -> None:
    paths = sorted((DOCS / "studies").glob("*.json"))
    floats = [
        f"{value:.4g}"
        for path in paths
        for part in [*read_found(path).found.tables, read_found(path).found]
        for row in (part.counted if isinstance(part, Found) else part.table).rows
        for value in row
        if isinstance(value, float)
    ]
    known = numbers("\n".join([path.read_text("utf-8") for path in paths])) | numbers("\n".join(floats))
    assert numbers((DOCS / chapter.PAGE).read_text("utf-8")) <= known


@pytest.mark.parametrize("measured", [(), ("temporal", "target"), tuple(claim.study for claim in CLAIMS)])
def test_the_words_of_the_page_have_no_number_of_their_own(measured: tuple[str, ...]) -> None:
    page = chapter.pages([study(name) for name in measured])[chapter.PAGE]
    assert numbers(page) == set()
    assert page.count("Not measured yet.") == 2 * (len(CLAIMS) - len(measured))
    for claim in CLAIMS:
        assert (f"tskd-tune study {claim.study}\n" in page) and (f"### Found: {claim.study}" in page) == (
            claim.study in measured
        )


def test_the_page_says_which_studies_are_quick_and_shows_what_was_found() -> None:
    table = NamedTable("all", "All | of it", "It says 7.", NUMBERS)
    long = replace(table, name="long", title="Long", table=replace(NUMBERS, rows=NUMBERS.rows * 9))
    files = [
        study("temporal", "tskd-tune study --quick", "ARIMA *wins* by 0.5 [0.2, 0.8], `a_b`, <8 seeds.", dead=3),
        study("target", tables=(table, long), figures=(figure(kind="points", x="epoch"),), dead=3),
        study("unknown"),
    ]
    made = chapter.pages(files)
    page = made[chapter.PAGE]
    assert (
        set(made) == {chapter.PAGE, "studies/target-skill.svg"} and "![Skill & seeds](studies/target-skill.svg)" in page
    )
    assert "**quick** form of a study: temporal. " in page and "full form of a study: target." in page
    assert "have not been run for this page: extractor, overhead." in page and "unknown" not in page
    assert page.count("ARIMA \\*wins\\* by 0.5 [0.2, 0.8], `a_b`, &lt;8 seeds.") == 2
    assert page.count("| ARIMA &lt;1> | cnn | 1 | 0.5 | 0.25 | 0.75 |") == 1
    assert page.count("The table is too long for this page.") == 1 and "*Long.*" in page
    assert page.count("| dead units | 3 |") == page.count("All of these counts are zero.") == 2
    assert "| failed" not in page
    assert "| drift | mlp | 2 | - | - | - |" in page
    assert numbers(page) >= {"0.5", "0.2", "0.8", "8", "7", "0.25"}


def test_the_command_writes_the_page_and_takes_old_pictures_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "studies"
    folder.mkdir()
    (folder / "target-old.svg").write_text("old")
    (folder / "target.json").write_text(study("target", figures=(figure(kind="points", x="epoch"),)).json())

    def run(*arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", ["chapter", *arguments])
        runpy.run_path(chapter.__file__, run_name="__main__")

    run(str(tmp_path))
    assert sorted(path.name for path in folder.iterdir()) == ["target-skill.svg", "target.json"]
    assert "### Found: target" in (tmp_path / chapter.PAGE).read_text()
    (folder / "target.json").write_text("{}")
    for arguments, said in (
        ([str(tmp_path)], "not what this version writes"),
        ([], "name the folder"),
        (["x"], "name the"),
    ):
        with pytest.raises(SystemExit, match=said):
            run(*arguments)


def marks(svg: str, tag: str) -> list[dict[str, str]]:
    return [dict(part.attrib) for part in ET.fromstring(svg).iter(f"{{http://www.w3.org/2000/svg}}{tag}")]


@pytest.mark.parametrize("log", [False, True])
def test_a_still_figure_has_a_mark_for_each_value_in_its_place(log: bool) -> None:
    points = still(figure(kind="points", x="epoch", group="forecast", reference=1.0, log=log))
    assert points == still(figure(kind="points", x="epoch", group="forecast", reference=1.0, log=log))
    dots = marks(points, "circle")
    assert len(dots) == 3
    assert dots[0]["cx"] == dots[2]["cx"] < dots[1]["cx"]  # the same epoch, and a later one
    heights = [float(dot["cy"]) for dot in dots]
    assert heights[0] > heights[1] > heights[2]  # a larger value is higher
    ratio = (heights[0] - heights[1]) / (heights[1] - heights[2])
    assert ratio == pytest.approx(1 if log else 0.1, rel=0.02)  # 0.5, 5 and 50
    assert [dot["fill"] for dot in dots[:2]] == [dots[0]["fill"]] * 2 != [dots[2]["fill"]] * 2
    words = ["".join(part.itertext()) for part in ET.fromstring(points).iter() if part.tag.endswith("text")]
    assert {"ARIMA <1>", "drift"} <= set(words) and "Skill &amp; seeds" in points
    lined = still(figure(kind="lines", x="epoch", group="forecast", line="network", log=log))
    assert len(marks(lined, "polyline")) == 3 and marks(lined, "circle") == []
    bars = marks(still(figure(kind="bars", x="network", group="forecast", log=log)), "rect")
    assert len(bars) == 3 + 2  # and two of the legend
    rows = still(figure(kind="intervals", x="network", group="forecast", reference=0.3, log=log))
    ends = [float(line["x2"]) - float(line["x1"]) for line in marks(rows, "line") if line["y1"] == line["y2"]]
    assert len(marks(rows, "circle")) == 3 and len(ends) == 2 and min(ends) > 0


def test_a_still_figure_of_nothing_is_a_picture_too() -> None:
    for kind, x in (("lines", "epoch"), ("points", "epoch"), ("bars", "network"), ("intervals", "network")):
        empty = replace(figure(kind=kind, x=x), table=replace(NUMBERS, rows=()))
        assert marks(still(empty), "circle") == []
