"""The frame of studies: a study is done once, goes on after a kill, writes the same bytes, and says what is wrong."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest
from filelock import FileLock
from studies.toy_study import Here, Square, square
from typer.testing import CliRunner

import tskd_tune
from tskd_tune.cli import app
from tskd_tune.errors import InputError, RunError
from tskd_tune.studies import STUDIES, work
from tskd_tune.studies.found import Table, read_found

TOY = "studies.toy_study:Toy"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, with jobs in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(work, "Place", Here)
    return tmp_path


def ran(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["study", *arguments])
    assert result.exit_code == code, result.output
    return result.output


def test_a_study_writes_its_page_its_numbers_and_how_it_was_made_and_a_rerun_the_same_bytes(here: Path):
    said = ran(TOY, "--quick", "--set", "first=2")
    assert (
        "A square grows & grows." in said and "the same command goes on: tskd-tune study studies.toy_study:Toy" in said
    )
    folder = here / "studies" / "Toy-quick"
    whole = read_found(folder / "found.json")
    assert whole.made.command == "tskd-tune study studies.toy_study:Toy --quick --set first=2"
    assert (whole.made.options, whole.made.threads) == ({"numbers": 3, "first": 2}, 1)
    assert {"statsmodels", "torch", "tskd-tune"} <= set(whole.made.versions)
    page = (folder / "index.html").read_text()
    assert all(f'id="figure-{one.name}"' in page for one in whole.found.figures) and "All &lt;squares&gt;" in page
    for name in (*(one.name for one in whole.found.figures), "all", "counted"):
        assert f"figures/{name}.csv" in page or name == "counted"
        rows = list(csv.reader((folder / "figures" / f"{name}.csv").open()))
        if name != "counted":
            assert rows[0] == ["name", "n", "square", "low", "high"]
            assert [float(row[2]) for row in rows[1:]] == [4 / 3, 9 / 3, 16 / 3]  # all digits
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    ran(TOY, "--quick", "--set", "first=2")
    again = tskd_tune.study(TOY, folder, quick=True, settings=["first=2"])
    assert again == whole
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == files
    assert not any(str(here).encode() in data for path, data in files.items() if path.suffix in (".html", ".json"))
    (folder / "figures" / "old.csv").write_text("")
    assert json.loads(ran(TOY, "--quick", "--set", "first=2", "--json"))["found"]["counted"]["rows"] == [["failed", 0]]
    assert not (folder / "figures" / "old.csv").exists()


def test_jobs_that_are_done_are_kept_when_others_fail_or_are_killed(tmp_path: Path):
    place = Here(tmp_path)
    with pytest.raises(ValueError, match="too small"):
        place.map("squares", square, [1, 2, -1, 3])
    assert place.computed == 3
    assert [one.number for one in place.map("squares", square, [3, 2, 1, 2])] == [3, 2, 1, 2]
    assert place.computed == 4
    [kept] = [path for path in (tmp_path / "jobs" / "squares").iterdir() if json.loads(path.read_text())["number"] == 3]
    kept.write_text("{")
    with pytest.raises(RunError, match="is damaged .* delete it and run the same command again"):
        place.map("squares", square, [3])


@pytest.mark.slow
def test_jobs_run_on_ray_with_one_thread_and_a_failure_keeps_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    )
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with work.Place(tmp_path) as place:
        with pytest.raises(RunError, match=r"1 jobs of squares failed; the first is -1: ValueError: too small") as told:
            place.map("squares", square, [1, -1, 2])
        assert "the same command goes on" in str(told.value)
        assert len(list((tmp_path / "jobs" / "squares").iterdir())) == 2
        assert place.map("squares", square, [2, 3]) == [Square(2, 4 / 3, "1"), Square(3, 3.0, "1")]


def test_what_is_wrong_is_said_before_anything_is_done(here: Path):
    assert "'toi' is not among the studies" in ran("toi", code=2)
    for entry in STUDIES:
        assert f"did you mean '{entry.name}'?" in ran(f"{entry.name}s", code=2)
    assert "unknown key 'number'; did you mean 'numbers'?" in ran(TOY, "--set", "number=3", code=2)
    assert "studies.toy_study:Toy: numbers: must be greater than 0, got 0" in ran(TOY, "--set", "numbers=0", code=2)
    (here / "file").write_text("")
    assert "is a file; name a folder" in ran(TOY, "--output", "file", code=2)
    (here / "mine").mkdir()
    (here / "mine" / "letter").write_text("")
    assert "is not the folder of a study; name another folder" in ran(TOY, "--output", "mine", code=2)
    ran(TOY, "--output", "done", "--quick")
    (here / "done" / "study.txt").write_text("other\n")
    assert "is the folder of the study other" in ran(TOY, "--output", "done", code=2)
    (here / "done" / "study.txt").write_text(f"{TOY}\n")
    with FileLock(here / "done" / "study.lock"):
        assert "another process works on this study" in ran(TOY, "--output", "done", code=2)
    with pytest.raises(RunError, match="is not what this version writes"):
        (here / "done" / "found.json").write_text("{}")
        read_found(here / "done" / "found.json")
    assert set(json.loads(ran("--json"))) == set(STUDIES.names())


def test_an_interrupted_study_says_how_it_goes_on(here: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupt(*given: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Here, "map", interrupt)
    said = ran(TOY, "--output", "my folder", code=130)
    assert "continue with: tskd-tune study studies.toy_study:Toy --output 'my folder'" in said


def test_a_table_refuses_a_row_that_does_not_fit_and_numbers_that_are_none():
    with pytest.raises(ValueError, match="a row has 1 values, but there are 2 columns"):
        Table(("a", "b"), ((1,),))
    assert Table(("a", "b"), ((1, None), ("x,y", 0.1))).csv() == 'a,b\n1,\n"x,y",0.1\n'


def test_a_setting_cannot_name_another_study(here: Path):
    with pytest.raises(InputError, match="give the name of the study as the first argument"):
        work.options_of(TOY, quick=False, settings=["name=other"])
