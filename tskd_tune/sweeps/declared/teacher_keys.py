"""Which trials of a sweep share a teacher: each teacher has a key."""

from __future__ import annotations

import json
from collections.abc import Iterable

from tskd_tune.experiment import Experiment
from tskd_tune.experiment.networks import UNTRAINED
from tskd_tune.experiment.teacher import teacher_key, trains_a_teacher


def key_of(experiment: Experiment) -> str | None:
    """Return the key of an experiment's teacher: the digest of its recipe, or its path; None if it has no file."""
    teacher = experiment.teacher
    if teacher is None or not experiment.needs_teacher or teacher.weights == UNTRAINED:
        return None
    if trains_a_teacher(experiment):
        return teacher_key(experiment)
    return json.dumps([teacher.name, teacher.options(), teacher.weights], sort_keys=True)


def distinct(experiments: Iterable[Experiment]) -> dict[str, Experiment]:
    """Return one experiment for every teacher that is needed, by the teacher's key."""
    found: dict[str, Experiment] = {}
    for experiment in experiments:
        key = key_of(experiment)
        if key is not None:
            found.setdefault(key, experiment)
    return found
