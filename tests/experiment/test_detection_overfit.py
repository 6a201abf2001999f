"""Every part of the path learns: on eight images a detector with each method finds the objects that it was shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import small_coco
from detecting import METHODS, REVIEW, SMALL, detection

from tskd_tune.experiment import Experiment
from tskd_tune.experiment.ready import build_trainer
from tskd_tune.networks.weights import load_into, write_state
from tskd_tune.training.trainer import Trainer

# Boxes of 45 to 90 of some 150 pixels, at two thirds of their size, and anchors like them.
SIDES, ANCHORS = (45, 60, 90), [12, 24, 36, 48, 64]
STUDENT = {
    **SMALL,
    "pyramid_width": 32,
    "head_width": 64,
    "anchor_sizes": ANCHORS,
    "regions": 64,
    "train_proposals": 128,
}
ARMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "tskd": {"review": REVIEW},
    **{name: METHODS[name] for name in ("detection_kd", "fitnet", "fgfi")},
    "review_kd and tskd": {**METHODS["review_kd"], "review": REVIEW},
}
BEGINNING, REST = 75, 25


def trained(root: Path, epochs: int, start: Path | None, **over: Any) -> Trainer[Any]:
    plain = detection(root, student=STUDENT, **over)
    plain["task"] |= {"batch_size": 8, "flip": False, "test": "train2017"}
    rate = {"lr": 0.002, "milestones": []} if start is None else {"lr": 0.001, "milestones": [15]}
    plain["training"] |= {"epochs": epochs, "optimizer": "adam", **rate}
    made: Any = build_trainer(Experiment.read(plain))
    if start is not None:
        load_into(made.student, start, name=str(STUDENT["name"]))
    return made


@pytest.mark.long
def test_a_detector_with_each_method_learns_eight_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small_coco, "SIDES", SIDES)
    root = small_coco.write_coco(tmp_path / "data", train=8, test=1)
    start, above = tmp_path / "start.pth", tmp_path / "teacher.pth"
    first = trained(root, BEGINNING, None, teacher=None)
    begun = [first.epoch().numbers for _ in range(BEGINNING)][-1]["test_ap50"]
    write_state(start, first.student, facts={})
    found: dict[str, float] = {}
    for arm, parts in ARMS.items():
        teacher = None if arm == "plain" else {**STUDENT, "weights": str(above)}
        training = trained(root, REST, start, **{"teacher": teacher, **parts})
        found[arm] = [training.epoch().numbers for _ in range(REST)][-1]["test_ap50"]
        if arm == "plain":
            write_state(above, training.student, facts={})  # it teaches the others
    assert min(found.values()) > max(begun, 90), (begun, found)
