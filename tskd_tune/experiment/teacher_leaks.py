"""Finds teachers that were trained on the validation images: their students look better there than on new images.

A teacher that is trained here never sees the validation images. Of given weights, a file that was trained here tells
its data and split. Weights that fit the validation images much better than the test images were trained on them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping

from tskd_tune.errors import InputError, shown
from tskd_tune.experiment.assembly import task_of
from tskd_tune.experiment.schema import Experiment
from tskd_tune.metrics import PERCENT, Part

Measure = Callable[[Part], float]

LEAST_POINTS, LEAST_Z = 5.0, 5.0
"""By how much a teacher must be better on the validation set, in points and in standard errors, to be named."""

REMEDY = "weights: auto trains a teacher without them"


def leak_of(experiment: Experiment, facts: Mapping[str, object], measure: Measure) -> str:
    """Say why given weights were, or may have been, trained on the validation images; empty where they were not.

    Args:
        experiment: the run that is taught; its teacher has given weights.
        facts: what the file says of itself.
        measure: measures the teacher's headline metric on a set that the run may read.
    """
    assert experiment.teacher is not None
    task = task_of(experiment)
    facts_of_task, named = task.facts(), f"teacher.weights: {shown(experiment.teacher.weights)}"
    if not facts_of_task.samples[1]:
        return ""
    trained = _experiment_of(facts)
    if trained is not None and trained.task.name == experiment.task.name:
        alike = task_of(trained).fingerprint() == task.fingerprint()
        said = f"{named} were trained on another split of {trained.task.name}, which may have the validation images of"
        return "" if alike else f"{said} this run among its training images; {REMEDY}"
    if experiment.measures_teacher_on == "validation":
        return (
            f"{named}: it is not known whether they were trained on the validation images, and the test set, which"
            f" would show it, is never read; {REMEDY}"
        )
    metric = facts_of_task.headline
    if metric.unit != PERCENT or metric.mode != "max":
        return ""
    values = {part: measure(part) for part in ("validation", "test")}
    return said_of(values["validation"], values["test"], facts_of_task.samples, named, metric.title)


def said_of(validation: float, test: float, samples: tuple[int, ...], named: str, title: str) -> str:
    """Say that a teacher is much better on the validation set than on the test set; empty where it is not.

    Args:
        validation: the share of right answers on the validation set, in percent.
        test: that on the test set.
        samples: the numbers of training, validation and test samples.
        named: the beginning of the sentence.
        title: the metric's title.
    """
    share = (validation * samples[1] + test * samples[2]) / (samples[1] + samples[2]) / 100
    error = 100 * math.sqrt(max(share * (1 - share), 1e-12) * (1 / samples[1] + 1 / samples[2]))
    if validation - test < max(LEAST_POINTS, LEAST_Z * error):
        return ""
    return (
        f"{named} reach a {title} of {validation:.2f} on the validation set and {test:.2f} on the test set, so they"
        f" were probably trained on the validation images; {REMEDY}"
    )


def _experiment_of(facts: Mapping[str, object]) -> Experiment | None:
    """Return the experiment of a teacher that was trained here; None for other files, and where it cannot be read."""
    told = facts.get("experiment")
    try:
        found = json.loads(told) if isinstance(told, str) else None
        return Experiment.read(found) if isinstance(found, dict) else None
    except (InputError, ValueError):
        return None
