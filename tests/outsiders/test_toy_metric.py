from __future__ import annotations

from pathlib import Path

import pytest

import tskd_tune
from tskd_tune.tasks.base import Objective
from tskd_tune.testing import ObjectiveContract, TaskContract


class TestBrier(ObjectiveContract):
    def objective(self) -> Objective:
        from toy_metric import Brier

        return Brier()


class TestScored(TaskContract):
    component = "toy_metric:scored"
    flips = {"batch_size": {"batch_size": 16}}  # noqa: RUF012


def test_a_training_is_measured_by_it_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    document = {
        "task": {"name": "toy_metric:scored"},
        "student": "resnet8",
        "review": None,
        "training": {"epochs": 2, "lr": 0.05, "device": "cpu"},
    }
    folder = tskd_tune.train(document, "mine", track=False)
    (row,) = folder.rows()
    assert {"val_brier", "test_brier"} <= set(row.metrics) and not any("top" in name for name in row.metrics)
    assert (folder.path / "report.html").exists()
