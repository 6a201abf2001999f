"""Several workers train a detector as one does, within rounding, also with losses that compare a whole batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from detecting import METHODS, REVIEW
from small_coco import write_coco
from torch.testing import assert_close

from tskd_tune.experiment import Experiment
from tskd_tune.experiment.ready import build_trainer
from tskd_tune.testing.base import tensors
from tskd_tune.testing.workers import groups, in_float64, trained

# Its proposals are fixed; a detector that draws its regions draws others in each worker.
DETECTOR = "tskd_tune.testing.small_detector:SmallDetector"
OVER: dict[str, dict[str, Any]] = {
    "detection_kd": METHODS["detection_kd"],
    "fitnet": METHODS["fitnet"],
    "fgfi": {"distiller": {"name": "fgfi", "stage": "stage4", "anchors": [16.0, 32.0, 64.0], "warmup": 0}},
    "review_kd": {"distiller": {"name": "review_kd", "stages": ["fpn0", "fpn1"], "weight": 1.0, "warmup": 0}},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven images of different sizes, three boxes in each, so that a mean over boxes is one over images."""
    return write_coco(tmp_path_factory.mktemp("data"), train=7, test=2)


@pytest.mark.parametrize("method", OVER)
def test_two_workers_train_a_detector_as_one_does(data: Path, method: str) -> None:
    task = {"name": "coco", "root": str(data), "batch_size": 4, "short_side": 64, "long_side": 96, "workers": 0}
    teacher = {"name": DETECTOR, "width": 8, "training": {"epochs": 1, "lr": 0.01}}
    training = {"epochs": 3, "lr": 0.01, "device": "cpu", "fold": False}
    plain = {"task": task, "teacher": teacher, "student": DETECTOR, "training": training, "review": REVIEW}
    experiment = Experiment.read(plain | {"evaluation": {"test": "never"}} | OVER[method])
    whole = in_float64(build_trainer(experiment))
    workers = [in_float64(build_trainer(experiment, group)) for group in groups(2)]
    trained([whole])
    trained(workers)
    for worker in workers:
        for ours, theirs in zip(worker.history, whole.history, strict=True):
            losses = {name: number for name, number in theirs.numbers.items() if name.startswith("loss")}
            assert f"loss_{method}" in losses and losses[f"loss_{method}"] > 0
            assert {name: ours.numbers[name] for name in losses} == pytest.approx(losses, rel=1e-9)
        for part in ("student", "distiller"):
            found, wanted = (tensors(one.state_dict()[part]) for one in (worker, whole))
            for one, other in zip(found, wanted, strict=True):
                assert_close(one, other, rtol=1e-8, atol=1e-10)
