"""Obtains an experiment's teacher: from the cache of trained teachers, or from given weights, which are verified."""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path

from filelock import FileLock

from tskd_tune.errors import InputError, RunError
from tskd_tune.experiment.assembly import build_teacher, task_of, teacher_network, trajectory
from tskd_tune.experiment.networks import AUTO, UNTRAINED, Student
from tskd_tune.experiment.schema import Experiment
from tskd_tune.method.memory import Frozen
from tskd_tune.metrics import measured
from tskd_tune.networks.pretrained import identity, is_published, load_published
from tskd_tune.networks.weights import load_into, read_state, write_state
from tskd_tune.outside import code_digest, short_name
from tskd_tune.tasks.base import Task
from tskd_tune.tasks.words import shown
from tskd_tune.teaching import Need, method_needs
from tskd_tune.training import checkpoint
from tskd_tune.training.evaluation import evaluate
from tskd_tune.training.replay import snapshot_epochs
from tskd_tune.training.teachers import Check, Progress, TeacherCache, TeacherFile, digest, parameter_count

# Options of a training that change no number, or that a teacher's training never has: teachers are trained exactly.
OF_NO_TEACHER = frozenset({"checkpoint", "compile", "device", "fold", "graphs", "kernels", "threads"})
# Options of a student that belong to its use and not to the network, so a teacher does not have them.
OF_STUDENTS = frozenset(Student.model_fields) - {"name"}


def teacher_key(experiment: Experiment) -> str:
    """Return the digest of all inputs of an ``auto`` teacher: network, data, split, recipe, method, precision."""
    plain = experiment.teacher_experiment()
    task = task_of(plain)
    training = plain.training.plain()
    recipe = {name: value for name, value in training.items() if name not in OF_NO_TEACHER}
    network = {name: value for name, value in plain.student.plain().items() if name not in OF_STUDENTS}
    network["name"] = short_name(plain.student.name)
    batch_size = plain.task.plain().get("batch_size")
    return digest(
        {
            "network": network,
            "data": task.fingerprint(),
            "batch_size": batch_size,
            "training": recipe,
            "seed": plain.seed,
            **_of_some(experiment),
            **_of_own_code(plain.student.name),
        }
    )


def _of_own_code(name: str) -> dict[str, str]:
    """Return the digest of the code of a network in the user's own file; empty for all other networks."""
    code = code_digest(name)
    return {} if code is None else {"code": code}


def _of_some(experiment: Experiment) -> dict[str, object]:
    """Return a teacher's optional inputs (method, student, replay); unset inputs are left out and change no digest."""
    assert experiment.teacher is not None
    method, replay = experiment.teacher.training.method, experiment.teacher.replay
    found: dict[str, object] = {"method": method.plain()} if method_needs(method) else {}
    if Need.STUDENT in method_needs(method):
        found["student"] = experiment.student.plain()
    return found if replay is None else {**found, "replay": replay}


def is_ready(experiment: Experiment, cache: TeacherCache) -> bool:
    """Tell whether the teacher is ready: given or not needed, or trained, in the cache and undamaged."""
    return not trains_a_teacher(experiment) or cache.usable(teacher_key(experiment), _check(experiment))


def trains_a_teacher(experiment: Experiment) -> bool:
    """Tell whether the experiment needs a teacher with ``weights: auto``."""
    return experiment.needs_teacher and experiment.teacher is not None and experiment.teacher.weights == AUTO


def _check(experiment: Experiment) -> Check:
    """Return a check that refuses a cached teacher that is damaged or has another network than the experiment's."""
    assert experiment.teacher is not None
    name = experiment.teacher.name

    def check(path: Path) -> None:
        load_into(teacher_network(experiment, task_of(experiment).facts()), path, name=name)
        trajectory(experiment, path)

    return check


def obtain(experiment: Experiment, cache: TeacherCache, progress: Progress) -> TeacherFile | None:
    """Return the experiment's teacher, and train the teacher if necessary; None if the experiment needs no teacher.

    Args:
        experiment: the run that needs a teacher.
        cache: where trained teachers are kept.
        progress: is called with the record of every epoch of a teacher's training.

    Raises:
        InputError: the checkpoint is missing, damaged or from another network.
    """
    teacher = experiment.teacher
    if teacher is None or not experiment.needs_teacher:
        return None
    if teacher.weights == UNTRAINED:
        network = teacher_network(experiment, task_of(experiment).facts())
        return TeacherFile(short_name(teacher.name), UNTRAINED, None, None, parameter_count(network))
    if teacher.weights != AUTO:
        return _verified(experiment, _given(experiment, cache), cache)
    key = teacher_key(experiment)
    plain = experiment.teacher_experiment()
    method = json.dumps(teacher.training.method.plain())
    facts = {"name": teacher.name, "experiment": json.dumps(plain.plain()), "method": method}
    kept = [] if teacher.replay is None else snapshot_epochs(teacher.training.epochs, teacher.replay)
    path = cache.obtain(
        key,
        lambda: build_teacher(experiment),
        progress,
        facts=facts,
        check=_check(experiment),
        snapshots=kept,
    )
    network = teacher_network(experiment, task_of(experiment).facts())
    accuracy = read_state(path).accuracy
    metrics = {} if accuracy is None else {_headline(task_of(experiment)): accuracy}
    return TeacherFile(short_name(teacher.name), AUTO, path, key, parameter_count(network), metrics)


def _given(experiment: Experiment, cache: TeacherCache) -> Path:
    """Return the file of given weights; published weights are saved in the cache of teachers."""
    teacher = experiment.teacher
    assert teacher is not None
    if not is_published(teacher.weights):
        return Path(teacher.weights)
    key = digest({"network": teacher.name, **teacher.options(), **identity(teacher.weights)})
    path = cache.path(key)
    with FileLock(cache.folder / f"{key}.lock"):
        if not cache.usable(key, _check(experiment)):
            network = teacher_network(experiment, task_of(experiment).facts())
            load_published(network, teacher.weights, name=teacher.name)
            write_state(path, network, facts={"name": teacher.name, "weights": teacher.weights})
    return path


def _verified(experiment: Experiment, path: Path, cache: TeacherCache) -> TeacherFile:
    assert experiment.teacher is not None
    name = experiment.teacher.name
    task = task_of(experiment)
    network = teacher_network(experiment, task.facts())
    load_into(network, path, name=name)
    key = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    memo = cache.folder / f"{key}-{task.fingerprint()[:16]}.measured"
    metrics = _measured(experiment, Frozen(network, take=True), memo)
    weights = experiment.teacher.weights
    source = weights if is_published(weights) else str(path)
    return TeacherFile(short_name(name), source, path, key, parameter_count(network), metrics)


def _headline(task: Task) -> str:
    return measured("test", task.facts().headline)


def _measured(experiment: Experiment, teacher: Frozen, memo: Path) -> dict[str, float]:
    """Measure the headline metric of a given teacher on the test set, once; a file keeps the value for later trials."""
    task = task_of(experiment)
    name = _headline(task)
    if memo.exists():
        try:
            return {name: checkpoint.load(memo)[name]}
        except (RunError, KeyError):
            warnings.warn(f"{memo}: the kept metric is damaged; the teacher is measured again", stacklevel=2)
    compute = experiment.training.compute()
    compute.use_threads()
    compute.place(teacher)
    found = evaluate(teacher, task.evaluation("test", compute.device), task.meter(), compute)
    metrics = {name: found[task.facts().headline.name]}
    checkpoint.save(metrics, memo)
    return metrics


def check_weights(experiment: Experiment) -> None:
    """Refuse, before any training, a teacher's checkpoint that cannot be loaded into the teacher's network.

    Raises:
        InputError: as `obtain`.
    """
    teacher = experiment.teacher
    if teacher is None or not experiment.needs_teacher or teacher.weights in (AUTO, UNTRAINED):
        return
    network = teacher_network(experiment, task_of(experiment).facts())
    if is_published(teacher.weights):
        load_published(network, teacher.weights, name=teacher.name)
        if teacher.replay is not None:
            raise InputError(
                f"teacher.replay: '{teacher.weights}' do not contain the snapshots of their training; set weights:"
                " auto, or leave replay out"
            )
        return
    path = Path(teacher.weights)
    if not path.exists():
        raise InputError(
            f"teacher.weights: there is no file {shown(str(path))}; give the path of a checkpoint, or auto"
        )
    load_into(network, path, name=teacher.name)
    trajectory(experiment, path)
