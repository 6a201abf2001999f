"""Where an experiment's teacher comes from: the cache of trained teachers, or a checkpoint that is verified."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch

from tskd_tune.errors import InputError
from tskd_tune.experiment.assembly import TeacherFile, build, task_of, teacher_network
from tskd_tune.experiment.schema import Experiment
from tskd_tune.method.memory import Frozen
from tskd_tune.networks.weights import load_into, read_state
from tskd_tune.training import checkpoint
from tskd_tune.training.teachers import Progress, TeacherCache, digest, parameter_count


def teacher_key(experiment: Experiment) -> str:
    """Return the digest of all that an ``auto`` teacher depends on: network, data, split, recipe, precision."""
    plain = experiment.teacher_experiment()
    task = task_of(plain)
    training = plain.training.plain()
    recipe = {name: value for name, value in training.items() if name not in ("device", "threads")}
    batch_size = plain.task.plain().get("batch_size")
    return digest(
        {
            "network": plain.student.plain(),
            "data": task.fingerprint(),
            "batch_size": batch_size,
            "training": recipe,
            "seed": plain.seed,
        }
    )


def is_ready(experiment: Experiment, cache: TeacherCache) -> bool:
    """Tell whether the experiment's teacher, if it needs one, can be read at once."""
    if not experiment.needs_teacher or experiment.teacher is None or experiment.teacher.weights != "auto":
        return True
    return cache.path(teacher_key(experiment)).exists()


def obtain(experiment: Experiment, cache: TeacherCache, progress: Progress) -> TeacherFile | None:
    """Return the experiment's teacher, training it if need be; None where nothing asks for one.

    Args:
        experiment: the run that needs a teacher.
        cache: where trained teachers are kept.
        progress: hears the record of every epoch of a teacher's training.

    Raises:
        InputError: the checkpoint is missing, damaged or of another network.
    """
    teacher = experiment.teacher
    if teacher is None or not experiment.needs_teacher:
        return None
    if teacher.weights != "auto":
        return _verified(experiment, Path(teacher.weights).expanduser(), cache)
    key = teacher_key(experiment)
    plain = experiment.teacher_experiment()
    facts = {"name": teacher.name, "experiment": json.dumps(plain.plain())}
    path = cache.obtain(key, lambda: build(plain, None), progress, facts)
    network = teacher_network(experiment, task_of(experiment).facts())
    accuracy = read_state(path).accuracy
    return TeacherFile(teacher.name, "auto", path, key, parameter_count(network), accuracy)


def _verified(experiment: Experiment, path: Path, cache: TeacherCache) -> TeacherFile:
    assert experiment.teacher is not None
    name = experiment.teacher.name
    task = task_of(experiment)
    network = teacher_network(experiment, task.facts())
    load_into(network, path, name=name)
    key = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    memo = cache.folder / f"{key}-{task.fingerprint()[:16]}.measured"
    accuracy = _measured(experiment, Frozen(network, take=True), memo)
    return TeacherFile(name, str(path), path, key, parameter_count(network), accuracy)


def _measured(experiment: Experiment, teacher: Frozen, memo: Path) -> float | None:
    """Measure a given teacher on the test part once; the figure is kept for the trials that follow."""
    if memo.exists():
        kept: float | None = checkpoint.load(memo)["test_top1"]
        return kept
    execution = experiment.training.execution()
    task = task_of(experiment)
    task.load(execution.device)
    execution.place(teacher)
    with torch.no_grad(), execution.autocast():
        metrics = task.evaluate(lambda images: teacher(execution.arrange(images)), "test")
    checkpoint.save({"test_top1": metrics.get("top1")}, memo)
    return metrics.get("top1")


def check_weights(experiment: Experiment) -> None:
    """Refuse, before anything is trained, a teacher's checkpoint that cannot be read into its network.

    Raises:
        InputError: as `obtain`.
    """
    teacher = experiment.teacher
    if teacher is None or not experiment.needs_teacher or teacher.weights == "auto":
        return
    path = Path(teacher.weights).expanduser()
    if not path.exists():
        raise InputError(f"teacher.weights: there is no file {path}; give the path of a checkpoint, or auto")
    load_into(teacher_network(experiment, task_of(experiment).facts()), path, name=teacher.name)
