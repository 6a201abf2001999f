"""The arms of a YAML file: the experiments that a sweep or a single experiment trains."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tskd_tune import documents, single
from tskd_tune.cli.preparing.course import Course
from tskd_tune.errors import InputError
from tskd_tune.experiment import Experiment
from tskd_tune.plain import Document
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.space.teacher_seeds import teachers_of


def arms_of(file: Path, settings: Sequence[str]) -> dict[str, Experiment]:
    """Return the experiments of a file by the label of their arm; a single experiment has the empty label.

    The arms of a search are not known before the search runs. For a search, return the corners of the search space.

    Raises:
        InputError: the file is wrong.
    """
    if not is_sweep(file):
        return {"": single.read(file, settings)}
    sweep = Sweep.load(file, settings)
    return {point.label: sweep.experiment_at(point) for point in sweep.space().corners()}


def teachers_in(file: Path, settings: Sequence[str]) -> Document:
    """Return the seeds of the teachers and the numbers of points and runs of a sweep with ``teacher.seeds``.

    Empty for every other file.
    """
    sweep = Sweep.load(file, settings) if is_sweep(file) else None
    points = sweep.points() if sweep is not None and sweep.is_exact else []
    if sweep is None or not teachers_of(points):
        return {}
    seeds = len(sweep.all_seeds())
    return {"teachers": teachers_of(points), "points": len(points), "seeds": seeds, "runs": len(points) * seeds}


def is_sweep(file: Path) -> bool:
    """Tell whether a YAML file has the form of a sweep.

    Raises:
        InputError: the file cannot be read.
    """
    return "experiment" in documents.load(file).data


def of_numbers(epochs: int, k: int, delta: int, settings: Sequence[str]) -> Experiment:
    """Return an experiment with these epochs, k and delta, and with settings such as ``review.plan.cycle=chained``.

    Raises:
        InputError: a number or a setting is wrong, or no review falls within the training.
    """
    # An experiment needs a task and networks. The plan does not depend on them, so any will do.
    document = {
        "task": {"name": "synthetic"},
        "teacher": {"name": "resnet8"},
        "student": {"name": "resnet8"},
        "review": {"k": k, "delta": delta},
        "training": {"epochs": epochs},
    }
    experiment = Experiment.read(documents.apply_settings(document, settings))
    if experiment.review is not None and experiment.review.counts_steps:
        raise InputError(
            "plan: review.plan.node counts steps, and three numbers do not tell how many steps an epoch has; give FILE,"
            " whose task does"
        )
    return experiment


def course_of(experiment: Experiment) -> Course:
    """Return the course of an experiment's training, epoch by epoch."""
    training, recipe = experiment.training, experiment.training.recipe()
    drops = [epoch for epoch in range(1, training.epochs) if recipe.rate(epoch) < recipe.rate(epoch - 1)]
    drops = drops if training.schedule.name == "steps" else []  # others change in each epoch
    return Course(training.epochs, training.milestones or [], drops, experiment.plan())
