"""The README's first sweep, whole: what a newcomer sees in the first minutes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.reports.findings.summary import summary
from tskd_tune.reports.forms.plain import as_json
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.estimating.estimate import of_sweep
from tskd_tune.sweeps.run import start

FILE = Path(__file__).parents[2] / "search_spaces" / "digits.yaml"


@pytest.mark.long
def test_the_first_sweep_gives_a_table_of_six_arms_under_a_better_teacher(a_ray: None, tmp_path: Path) -> None:
    sweep = Sweep.load(FILE, ["seeds=[1]"])  # of its three seeds, which take minutes
    folder = start(sweep, "digits", tmp_path, lambda event: None)
    kept = sum(file.stat().st_size for file in folder.path.rglob("*") if file.is_file())
    assert of_sweep(sweep, budget=0.0).disk_bytes == pytest.approx(kept, rel=0.1), "the teacher is in the cache by now"
    found = summary(folder)
    arms = {arm["arm"]: arm for arm in as_json(found)["arms"]}
    assert list(arms) == [
        "baseline",
        "kd",
        "at_review",
        "tskd_paper_lambda",
        "tskd_increment",
        "tskd_feature_map",
    ]
    assert all(arm["n"] == 1 and arm["mean"] > 50 for arm in arms.values())
    assert [arm["reviews"] for arm in arms.values()] == [0, 0, 3, 3, 3, 3]
    (teacher,) = as_json(found)["teachers"]
    assert teacher["metrics"]["test_top1"] > arms["baseline"]["mean"] + 1.0
    assert arms["tskd_paper_lambda"]["lambda"]["mean"] == 1.0 != arms["tskd_increment"]["lambda"]["mean"]
    rows = folder.rows()
    assert {row.seed for row in rows} == {1}
    assert "test_top1" in rows[0].metrics and rows[0].best_by("test") is None

    page = (folder.path / "report.html").read_text()
    assert "figure-accuracy" in page and "tskd_feature_map" in page
    assert len(list((folder.path / "wandb").glob("offline-run-*"))) == 6
    assert len(list((folder.path / "trainings").glob("*/student.pth"))) == 6
    assert not [line for line in history(folder) if line["epoch"] < 11 and "test_top1" in line]


def history(folder: RunFolder) -> list[dict[str, object]]:
    paths = (folder.path / "trainings").glob("*/history.jsonl")
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]
