"""Batches that a method learns nothing from, or breaks on, are refused before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest
from detecting import METHODS, detection
from small_coco import write_coco

from tskd_tune.distillers import DISTILLERS, Need
from tskd_tune.errors import InputError
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.verification import verify

ONE = {"name": "digits", "train": 20, "validation": 20, "batch_size": 1}
DETECTING = [entry.name for entry in DISTILLERS if Need.BOXES in entry.factory.needs]
COMPARING = {"review_kd": 2, "sad": 2, "pkt": 2, "sp": 2, "rkd": 3}


def experiment(distiller: object, task: object, **teacher: object) -> Experiment:
    document = {
        "student": "resnet8",
        "teacher": {"name": "resnet8", **teacher},
        "review": None,
        "training": {"epochs": 2},
    }
    return Experiment.read({**document, "distiller": distiller, "task": task})


@pytest.mark.parametrize(("name", "least"), COMPARING.items())
def test_batches_that_compare_nothing(name: str, least: int) -> None:
    sentence = f"the distiller '{name}' compares at least {least} images of a batch; raise task.batch_size"
    for size in range(1, least):
        with pytest.raises(InputError, match=sentence):
            verify(experiment(name, {**ONE, "batch_size": size}))
    verify(experiment(name, {**ONE, "batch_size": least}))


@pytest.mark.parametrize("task", [{**ONE, "batch_size": 64, "train": 10}, {**ONE, "batch_size": 5, "train": 11}])
@pytest.mark.parametrize("name", COMPARING)
def test_a_last_sample_that_joins_the_batch_before_it(name: str, task: dict[str, object]) -> None:
    verify(experiment(name, task))


def test_a_part_of_several_methods() -> None:
    with pytest.raises(InputError, match="the distiller 'combined' compares at least 3 images"):
        verify(experiment({"name": "combined", "parts": {"a": "kd", "b": "rkd"}}, {**ONE, "batch_size": 2}))


@pytest.mark.parametrize("name", DETECTING)
def test_every_method_of_detectors_learns_from_one_image(name: str, tmp_path: Path) -> None:
    document = detection(write_coco(tmp_path, train=2, test=1), **METHODS[name])
    document["task"]["batch_size"] = 1
    verify(Experiment.read(document))


@pytest.mark.parametrize(
    "name", [name for name in DISTILLERS.names() if name not in {*COMPARING, *DETECTING, "combined"}]
)
def test_every_other_method_learns_from_one_image_or_is_refused(name: str) -> None:
    weights = "untrained" if name == "ekd" else "auto"
    try:
        verify(experiment(name, ONE, weights=weights))
    except InputError as error:
        assert "task.batch_size: a batch has 1 image, and a step of training fails on it" in str(error)


def test_batch_norm_of_one_pixel_breaks_student_and_teacher() -> None:
    document = {"task": ONE, "student": "vgg8", "review": None, "training": {"epochs": 2}}
    with pytest.raises(InputError, match="a batch has 1 image, and a step of training fails on it .ValueError"):
        verify(Experiment.read(document))
    taught = {**document, "student": "resnet8", "teacher": "vgg8", "distiller": "kd"}
    with pytest.raises(InputError, match="a batch has 1 image, and a step of training fails on it .ValueError"):
        verify(Experiment.read(taught))
