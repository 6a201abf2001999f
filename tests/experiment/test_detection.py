"""Experiments of detection: every method trains, a resume has the same bits, and what does not fit is refused."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any

import pytest
import torch
from detecting import METHODS, REVIEW, SMALL, detection
from small_coco import write_coco

from tskd_tune.errors import InputError
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.ready import build_trainer
from tskd_tune.experiment.teacher import obtain
from tskd_tune.experiment.verification import verify
from tskd_tune.training.teachers import TeacherCache
from tskd_tune.training.trainer import Trainer


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_coco(tmp_path_factory.mktemp("data"), train=8, test=2)


def trainer(data: Path, **over: Any) -> Trainer[Any]:
    made: Any = build_trainer(Experiment.read(detection(data, **over)))
    return made


def saved(training: Trainer[Any]) -> dict[str, Any]:
    """Return the state as a checkpoint in a file has it."""
    file = io.BytesIO()
    torch.save(training.state_dict(), file)
    file.seek(0)
    found: dict[str, Any] = torch.load(file, weights_only=True)
    return found


def refusal(data: Path, **over: Any) -> str:
    with pytest.raises(InputError) as caught:
        verify(Experiment.read(detection(data, **over)))
    return str(caught.value)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_distils_and_is_reviewed_beside(data: Path, method: str) -> None:
    training = trainer(data, **METHODS[method], review=REVIEW)
    records = [training.epoch() for _ in range(3)]
    assert {f"loss_{method}", "loss_classifier", "loss_box", "loss_objectness"} <= records[0].numbers.keys()
    assert records[-1].phase == "review" and records[-1].numbers["loss_review"] > 0
    assert 0 <= records[-1].numbers["test_ap50"] <= 100


@pytest.mark.parametrize("method", ["alone", "reviewed beside review_kd"])
def test_a_resume_within_an_epoch_has_the_same_bits(data: Path, method: str) -> None:
    over: dict[str, Any] = {} if method == "alone" else {"review": REVIEW}
    over |= METHODS["review_kd"] if "review_kd" in method else {}
    whole, stopped = trainer(data, **over), trainer(data, **over)
    expected = [whole.epoch().numbers for _ in range(3)]
    stopped.epoch(), stopped.epoch(), stopped.begin()
    next(stopped.steps())
    state = copy.deepcopy(saved(stopped))
    torch.manual_seed(99)
    resumed = trainer(data, **over)
    resumed.load_state_dict(state)
    assert resumed.epoch().numbers == expected[-1]
    first, second = (run.student.state_dict() for run in (whole, resumed))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_a_teacher_is_trained_kept_and_found_again(data: Path, tmp_path: Path) -> None:
    experiment = Experiment.read(detection(data, distiller={"name": "detection_kd"}))
    cache = TeacherCache(tmp_path)
    first, again = (obtain(experiment, cache, lambda record: None) for _ in range(2))
    assert first is not None and again is not None and first.path is not None
    assert first.path == again.path and first.metrics.keys() == {"test_ap"}
    given = detection(data, teacher={**SMALL, "weights": str(first.path)}, distiller={"name": "detection_kd"})
    found = obtain(Experiment.read(given), cache, lambda record: None)
    assert found is not None and found.metrics == first.metrics


def test_a_teacher_of_other_classes_is_fine_tuned_with_a_new_head(data: Path, tmp_path: Path) -> None:
    from tskd_tune.networks import NETWORKS
    from tskd_tune.networks.weights import write_state

    options = {name: value for name, value in SMALL.items() if name != "name"}
    write_state(tmp_path / "seven.pth", NETWORKS.build(str(SMALL["name"]), 7, **options), facts={})
    tuned = {**SMALL, "weights": str(tmp_path / "seven.pth"), "fine_tune": {"epochs": 1}}
    experiment = Experiment.read(detection(data, teacher=tuned, distiller={"name": "detection_kd"}))
    found = obtain(experiment, TeacherCache(tmp_path), lambda record: None)
    assert found is not None and "new head for 3 classes" in found.source


def test_what_is_no_detector_is_refused(data: Path) -> None:
    assert refusal(data, student={"name": "resnet8"}) == (
        "student: 'resnet8' is no detector, but the task 'coco' is detection; choose a detector, such as"
        " faster_rcnn_resnet50_fpn"
    )
    assert refusal(data, teacher={"name": "resnet14"}, distiller={"name": "detection_kd"}) == (
        "teacher: 'resnet14' is no detector, but the task 'coco' is detection; choose a detector, such as"
        " faster_rcnn_resnet50_fpn"
    )
    assert refusal(data, task={"name": "synthetic", "size": 32}) == (
        f"student: '{SMALL['name']}' is a detector, but the samples of the task 'synthetic' have no boxes; choose"
        " another network, or a task with boxes, such as coco"
    )


@pytest.mark.parametrize("method", ["sftn", "soteacher"])
def test_a_method_that_trains_classifiers_is_refused(data: Path, method: str) -> None:
    teacher = {**SMALL, "training": {"epochs": 2, "method": {"name": method}}}
    assert refusal(data, teacher=teacher, distiller={"name": "detection_kd"}) == (
        f"teacher.training.method: '{method}' reads the logits of a classifier, but the output of '{SMALL['name']}'"
        " has none; set method: plain"
    )


def test_a_distiller_of_classifiers_is_refused(data: Path) -> None:
    assert refusal(data, distiller={"name": "kd"}) == (
        f"distiller: 'kd' reads the logits of the student and the teacher, but the output of '{SMALL['name']}' has no"
        " logits; choose another distiller or network"
    )


def test_a_resolution_of_the_student_is_refused(data: Path) -> None:
    assert refusal(data, student={**SMALL, "resolution": 64}) == (
        "student.resolution: 64, but the boxes of the task are in pixels of its images; leave it out, and let the task"
        " scale the images"
    )
