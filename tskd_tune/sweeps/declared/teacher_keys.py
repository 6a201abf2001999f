"""Which trials of a sweep share a teacher: each teacher has a key."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from hashlib import sha256

from tskd_tune.experiment import Experiment
from tskd_tune.experiment.networks import UNTRAINED
from tskd_tune.experiment.teacher import teacher_key, trains_a_teacher
from tskd_tune.outside import short_name


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


def told_apart(experiments: Mapping[str, Experiment]) -> dict[str, str]:
    """Return a name for each teacher: its network, and where several teachers have one network, what tells them apart.

    That is the seed of a teacher that is trained, and otherwise its weights; where others have these too, the key.

    Args:
        experiments: key of a teacher -> an experiment with this teacher, as `distinct` returns them.
    """
    short = {key: short_name(of.teacher.name) for key, of in experiments.items() if of.teacher is not None}
    longer = {key: f"{name} ({_mark(experiments[key])})" for key, name in short.items()}
    longest = {key: f"{name} (key {_digest(key)})" for key, name in short.items()}
    return {
        key: next(
            (names[key] for names in (short, longer) if [*names.values()].count(names[key]) == 1),
            longest[key],
        )
        for key in short
    }


def _mark(experiment: Experiment) -> str:
    assert experiment.teacher is not None
    trained = trains_a_teacher(experiment)
    return f"seed {experiment.teacher.learning.seed}" if trained else experiment.teacher.weights


def _digest(key: str) -> str:
    """Return the first letters of a key: of a digest, or of the digest of a key that is JSON."""
    return (key if key.isalnum() else sha256(key.encode()).hexdigest())[:8]
