"""Every distiller runs, alone and beside a review, on the embedded data."""

from __future__ import annotations

from pathlib import Path

import pytest

from tskd_tune.distillers import DISTILLERS
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.run import start

FOLDER = Path(__file__).parents[2] / "search_spaces"
# What is added up of others, and what needs no file of its own.
COMBINED = {"combined"}
# For detectors alone; coco_demo has them.
OF_DETECTORS = {entry.name for entry in DISTILLERS if "boxes" in entry.needs}
OF_CLASSIFIERS = set(DISTILLERS.names()) - OF_DETECTORS


def distillers(name: str, *settings: str) -> set[str]:
    sweep = Sweep.load(FOLDER / f"{name}.yaml", settings)
    return {sweep.experiment_at(point).distiller.name for point in sweep.space().grid()}


def test_no_distiller_is_left_out() -> None:
    assert distillers("rivals_digits") == OF_CLASSIFIERS
    assert distillers("rivals_images", "experiment.task.root=somewhere") == OF_CLASSIFIERS - COMBINED
    assert distillers("coco_demo", "experiment.task.root=somewhere") >= OF_DETECTORS


@pytest.mark.slow
def test_every_rival_runs_alone_and_beside_a_review(a_ray: None, tmp_path: Path) -> None:
    images = ["experiment.task.train=160", "experiment.task.validation=100"]
    short = ["seeds=[1]", "experiment.training.epochs=3", "experiment.teacher.training.epochs=5", *images]
    sweep = Sweep.load(FOLDER / "rivals_digits.yaml", short)
    folder: RunFolder = start(sweep, "rivals", tmp_path, lambda event: None, track=False)
    rows = folder.rows()
    assert len(rows) == len(sweep.space().grid()) == 40
    assert {row.status for row in rows} == {"done"} and {row.epochs for row in rows} == {3}
    reviewing = [row for row in rows if row.plan.review]
    assert len(reviewing) == 20 and all(row.lambda_ and row.lambda_ > 0 for row in reviewing)
    assert {row.experiment["distiller"]["name"] for row in reviewing} == OF_CLASSIFIERS
