"""The arms of a YAML file: the experiments that a sweep or a single experiment trains."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tskd_tune import documents, single
from tskd_tune.cli.course import Course
from tskd_tune.experiment import Experiment
from tskd_tune.sweeps.schema import Sweep


def arms_of(file: Path, settings: Sequence[str]) -> dict[str, Experiment]:
    """Return the experiments of a file by the label of their arm; a single experiment goes by the empty label.

    The arms of a search are not known before it runs; for a search these are the corners of its space.

    Raises:
        InputError: the file is wrong.
    """
    if not is_sweep(file):
        return {"": single.read(file, settings)}
    sweep = Sweep.load(file, settings)
    return {point.label: sweep.experiment_at(point) for point in sweep.space().corners()}


def is_sweep(file: Path) -> bool:
    """Tell whether a YAML file has the form of a sweep.

    Raises:
        InputError: the file cannot be read.
    """
    return "experiment" in documents.load(file).data


def of_numbers(epochs: int, k: int, delta: int, settings: Sequence[str]) -> Experiment:
    """Return an experiment of a length, a k and a delta, with settings such as ``review.plan.cycle=chained``.

    Raises:
        InputError: a number or a setting is wrong, or no review falls within the training.
    """
    # The plan does not depend on the task and the networks, which make the numbers a whole experiment.
    document = {
        "task": {"name": "synthetic"},
        "teacher": {"name": "resnet8"},
        "student": {"name": "resnet8"},
        "review": {"k": k, "delta": delta},
        "training": {"epochs": epochs},
    }
    return Experiment.read(documents.apply_settings(document, settings))


def course_of(experiment: Experiment) -> Course:
    """Return what the training of an experiment does epoch by epoch."""
    training, recipe = experiment.training, experiment.training.recipe()
    drops = [epoch for epoch in range(1, training.epochs) if recipe.rate(epoch) < recipe.rate(epoch - 1)]
    return Course(training.epochs, training.milestones or [], drops, experiment.plan())
