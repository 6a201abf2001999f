"""How far a run is, read off files that another process writes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tskd_tune.cli.standing import standing
from tskd_tune.experiment import Experiment
from tskd_tune.records.results import Cost, Row, RunFolder
from tskd_tune.sweep.schema import Sweep


@pytest.fixture
def folder(tmp_path: Path, tiny_document: dict[str, Any]) -> RunFolder:
    """A sweep of 4 trainings of 6 epochs: two are done, one has trained 2 epochs, one has not begun."""
    sweep = Sweep.read({"experiment": tiny_document, "seeds": [1, 2, 3, 4], "search": {"name": "grid"}})
    folder = RunFolder.create(tmp_path, "s", "sweep", sweep.plain(), expected=4)
    plain = Experiment.read(tiny_document).plain()
    for run, arm, accuracy in (("a", "kd", 60.0), ("b", "at", 70.0)):
        folder.add_row(
            Row(
                run=run, arm=arm, point={"arm": arm}, seed=1, status="done", epochs=6, epochs_planned=6,
                metrics={"val_top1": accuracy, "val_loss": 1.0}, preset="paper", started="", finished="",
                cost=Cost(seconds=60, train_seconds=60, device="cpu", threads=1), experiment=plain,
            )
        )  # fmt: skip
    folder.append_history("c", [{"seed": 2, "epoch": epoch, "seconds": 9.0, "eval_seconds": 1.0} for epoch in (0, 1)])
    return folder


def test_the_time_left_is_the_epochs_left_at_the_mean_cost(folder: RunFolder) -> None:
    found = standing(folder)
    assert found.left == pytest.approx((4 + 6) * 10.0)
    folder.append_history("d", [{"seed": 3, "epoch": 0, "seconds": 10.0}])
    assert standing(folder).left == pytest.approx((4 + 5) * 10.0 / 2), "two are under way at once"


def test_trainings_are_told_with_their_epochs(folder: RunFolder) -> None:
    lines = [training.line() for training in standing(folder).trainings]
    assert lines[0] == "a: kd, seed 1, done, last epoch 5 (6 of 6 epochs)"
    assert lines[2] == "c: seed 2, unfinished, last epoch 1 (2 of 6 epochs)"
    assert not standing(folder).finished


def test_the_best_is_by_the_validation_mean(folder: RunFolder) -> None:
    assert standing(folder).best() == ("at", "val top-1 (%) 70.00 (one seed, no spread)")


def test_silence_is_the_time_since_the_last_record(folder: RunFolder) -> None:
    found = standing(folder, datetime.now(UTC) + timedelta(hours=1))
    assert found.silent == pytest.approx(3600, abs=60) and found.elapsed < 60


def test_nothing_is_guessed_before_anything_was_trained(tmp_path: Path, tiny_document: dict[str, Any]) -> None:
    plain = Experiment.read(tiny_document).plain()
    found = standing(RunFolder.create(tmp_path, "t", "train", plain, expected=1))
    assert (found.left, found.best(), list(found.trainings)) == (None, None, [])


def test_arms_of_different_lengths_have_no_common_plan(tmp_path: Path, tiny_document: dict[str, Any]) -> None:
    document = {**tiny_document, "training": {**tiny_document["training"], "epochs": {"choice": [6, 9]}}}
    sweep = Sweep.read({"experiment": document, "search": {"name": "grid"}})
    folder = RunFolder.create(tmp_path, "s", "sweep", sweep.plain(), expected=2)
    folder.append_history("a", [{"seed": 1, "epoch": 3, "seconds": 1.0}])
    (training,) = standing(folder).trainings
    assert (training.epochs, training.planned, standing(folder).left) == (4, None, None)
    assert training.line() == "a: seed 1, unfinished, last epoch 3"
