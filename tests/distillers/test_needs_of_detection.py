"""Which distillers are refused: those of classifiers for a detector, and the reverse."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tskd_tune.distillers import DISTILLERS
from tskd_tune.errors import InputError, RunError
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.assembly import assemble, task_of, teacher_network
from tskd_tune.testing.detector_distillers import SMALL, TEACHER
from tskd_tune.testing.distillers import REVIEW, TINY
from tskd_tune.testing.small_detector import CLASSES, SmallDetector, small_detection
from tskd_tune.training.trainer import Trainer

FOR_DETECTORS = ("detection_kd", "fgfi", "fitnet", "none")
LEVELS = {"name": "review_kd", "stages": ["fpn0", "fpn1"]}


def detecting(distiller: Any, review: Any = None) -> Trainer:
    training = {"epochs": 3, "lr": 0.01}
    document = {**TINY, "student": SMALL, "teacher": TEACHER, "distiller": distiller, "training": training}
    experiment = Experiment.read({**document, "review": review})
    teacher = SmallDetector(CLASSES, width=6)
    return assemble(experiment, small_detection(), teacher, torch.zeros(0, dtype=torch.long))  # type: ignore[arg-type]


def classifying(distiller: Any) -> Trainer:
    experiment = Experiment.read({**TINY, "teacher": "resnet14", "distiller": distiller, "review": None})
    task = task_of(experiment)
    targets = torch.zeros(24, dtype=torch.long)
    return assemble(experiment, task, teacher_network(experiment, task.facts()), targets)


@pytest.mark.parametrize("name", [name for name in DISTILLERS.names() if name not in (*FOR_DETECTORS, "combined")])
def test_a_distiller_of_classifiers_is_refused_for_a_detector(name: str) -> None:
    said = (
        rf"'{name}' reads the (logits|embedding) .* the output of 'tskd_tune.*:SmallDetector' has no (logits|embedding)"
        rf"|'{name}' compares whole maps, but the task's images have different sizes, .* choose detection_kd, fitnet"
    )
    with pytest.raises(InputError, match=said):
        detecting({"name": name})


@pytest.mark.parametrize("name", ["detection_kd", "fgfi"])
def test_a_distiller_of_detectors_is_refused_for_a_classifier(name: str) -> None:
    with pytest.raises(InputError, match=f"'{name}' reads the boxes of .* the output of 'resnet8' has no boxes"):
        classifying({"name": name})


def test_a_combination_needs_what_its_parts_need() -> None:
    with pytest.raises(InputError, match="'combined' reads the boxes of .* the output of 'resnet8' has no boxes"):
        classifying({"name": "combined", "parts": {"a": "kd", "b": "detection_kd"}})
    with pytest.raises(InputError, match="'combined' compares whole maps"):
        detecting({"name": "combined", "parts": {"a": "detection_kd", "b": "at"}})
    with pytest.raises(InputError, match="different sizes.*'full' weights were made"):
        detecting("none", {**REVIEW, "extractor": {"name": "conv_lstm", "peephole": "full"}})


@pytest.mark.parametrize("distiller", [*({"name": name} for name in FOR_DETECTORS), LEVELS])
def test_tskd_trains_a_detector_beside_each_method(distiller: dict[str, Any]) -> None:
    trainer = detecting(distiller, {**REVIEW, "taps": {"layers": ["stage2", "fpn0"]}})
    while not trainer.finished:
        trainer.epoch()
    assert trainer.review is not None and trainer.review.loss.taps.names == ("stage2", "fpn0")
    numbers = trainer.history[-1].numbers
    assert numbers["loss_review"] > 0 and numbers["loss_classifier"] > 0


def test_a_loss_that_would_take_the_place_of_another_is_refused() -> None:
    parts = {"review": {"name": "detection_kd"}}
    trainer = detecting({"name": "combined", "parts": parts})
    with pytest.raises(RunError, match="its loss 'review' has the name of a loss of the task or the review; rename"):
        trainer.epoch()
