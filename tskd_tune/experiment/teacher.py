"""Obtains an experiment's teacher: from the cache of trained teachers, or from given weights, which are verified."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from pathlib import Path

from filelock import FileLock

from tskd_tune.errors import InputError, RunError
from tskd_tune.experiment.assembly import build_teacher, task_of, teacher_network, trajectory
from tskd_tune.experiment.networks import AUTO, UNTRAINED, Student
from tskd_tune.experiment.schema import Experiment
from tskd_tune.experiment.teacher_leaks import leak_of
from tskd_tune.experiment.tuning import load_start, start_digest
from tskd_tune.method.memory import Frozen
from tskd_tune.metrics import Metric, Part, measured
from tskd_tune.networks.base import Network
from tskd_tune.networks.pretrained import identity, is_published, load_published
from tskd_tune.networks.weights import load_into, read_state, write_state
from tskd_tune.outside import code_digest, short_name
from tskd_tune.tasks.base import PLACES
from tskd_tune.tasks.words import shown
from tskd_tune.teaching import Need, method_needs
from tskd_tune.training import checkpoint
from tskd_tune.training.evaluation import evaluate
from tskd_tune.training.replay import snapshot_epochs
from tskd_tune.training.teachers import Check, Progress, TeacherCache, TeacherFile, digest, parameter_count
from tskd_tune.training.trainer import Trainer

# Options of a training that change no number, or that a teacher's training never has: teachers are trained exactly.
OF_NO_TEACHER = frozenset({"checkpoint", "compile", "device", "fold", "graphs", "kernels", "threads"})
# Options that are newer than cached teachers: at their default they are no part of the key.
LATER_OPTIONS = ("optimizer", "schedule", "batch_norm_groups", "accumulate")
# The fact of a fine-tuned teacher's file that says how its training began.
STARTED = "started"
# Options of a student that belong to its use and not to the network, so a teacher does not have them.
OF_STUDENTS = frozenset(Student.model_fields) - {"name"}


def teacher_key(experiment: Experiment) -> str:
    """Return the digest of all inputs of an ``auto`` teacher: network, data, split, recipe, method, precision."""
    plain = experiment.teacher_experiment()
    task = task_of(plain)
    training = plain.training.plain()
    recipe = {name: value for name, value in training.items() if name not in OF_NO_TEACHER}
    for name in LATER_OPTIONS:
        if getattr(plain.training, name) == type(plain.training).model_fields[name].get_default(
            call_default_factory=True
        ):
            del recipe[name]
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
    # An option that is younger than kept teachers is left out at its default, so that these teachers are found.
    options = {key: value for key, value in method.plain().items() if (key, value) != ("average_precision", "float32")}
    named = {**options, "name": short_name(method.name), **_of_own_code(method.name)}
    found: dict[str, object] = {"method": named} if method_needs(method) else {}
    if experiment.teacher.fine_tune is not None:
        found["start"] = start_digest(experiment.teacher.weights)
    if Need.STUDENT in method_needs(method):
        student = experiment.student
        found["student"] = {**student.plain(), "name": short_name(student.name), **_of_own_code(student.name)}
    return found if replay is None else {**found, "replay": replay}


def is_ready(experiment: Experiment, cache: TeacherCache) -> bool:
    """Tell whether the teacher is ready: given or not needed, or trained, in the cache and undamaged."""
    return not trains_a_teacher(experiment) or cache.usable(teacher_key(experiment), _check(experiment))


def trains_a_teacher(experiment: Experiment) -> bool:
    """Tell whether the experiment needs a teacher that is trained first: ``weights: auto``, or a fine-tuned one."""
    teacher = experiment.teacher
    return (
        experiment.needs_teacher and teacher is not None and (teacher.weights == AUTO or teacher.fine_tune is not None)
    )


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
    if not trains_a_teacher(experiment):
        return _verified(experiment, _given(experiment, cache), cache)
    key = teacher_key(experiment)
    plain = experiment.teacher_experiment()
    method = json.dumps(teacher.training.method.plain())
    facts = {"name": teacher.name, "experiment": json.dumps(plain.plain()), "method": method}
    if teacher.fine_tune is not None and not cache.usable(key, _check(experiment)):
        facts[STARTED] = _start(experiment, cache)
    kept = [] if teacher.replay is None else snapshot_epochs(teacher.learning.epochs, teacher.replay)
    path = cache.obtain(
        key,
        lambda: _trainer(experiment),
        progress,
        facts=facts,
        check=_check(experiment),
        snapshots=kept,
    )
    network = teacher_network(experiment, task_of(experiment).facts())
    source = AUTO
    if teacher.fine_tune is not None:
        began = _started(experiment, path, cache)
        source = f"{teacher.weights}, fine-tuned for {teacher.fine_tune.epochs} epochs ({began})"
    metrics = _of_trained(experiment, path, network, cache)
    return TeacherFile(short_name(teacher.name), source, path, key, parameter_count(network), metrics)


def _of_trained(experiment: Experiment, path: Path, network: Network, cache: TeacherCache) -> Mapping[str, float]:
    """Return the headline of a teacher that was trained here, as its training measured it.

    A run that never reads the test set may have trained the teacher for a run that does; then it is measured now.
    """
    name, found = _headline(experiment), read_state(path)
    kept = found.facts.get("metrics")
    value = kept.get(name) if isinstance(kept, Mapping) else None
    if value is None and experiment.measures_teacher_on == "test":
        value = found.accuracy
    if isinstance(value, int | float):
        return {name: float(value)}
    assert experiment.teacher is not None
    load_into(network, path, name=experiment.teacher.name)
    return _measured(experiment, Frozen(network, take=True), cache.folder / f"{path.stem}.measured")


def _trainer(experiment: Experiment) -> Trainer:
    """Build the training of a teacher, from given weights where it is fine-tuned."""
    assert experiment.teacher is not None
    trainer = build_teacher(experiment)
    if experiment.teacher.fine_tune is not None:
        load_start(experiment, trainer.student)
    return trainer


def _started(experiment: Experiment, path: Path, cache: TeacherCache) -> object:
    """Return what the file of a fine-tuned teacher says of its start; of another set than this run may read: anew."""
    said = read_state(path).facts.get(STARTED)
    hidden = experiment.measures_teacher_on != "test" and str(said).startswith(measured("test", _metric(experiment)))
    return _start(experiment, cache) if hidden else said


def _start(experiment: Experiment, cache: TeacherCache) -> str:
    """Say, for the row, how good given weights are before they are fine-tuned, or that their head is new."""
    assert experiment.teacher is not None
    network = teacher_network(experiment, task_of(experiment).facts())
    if load_start(experiment, network):
        return f"new head for {task_of(experiment).facts().outputs} classes"
    words = {"start": start_digest(experiment.teacher.weights), "data": task_of(experiment).fingerprint()}
    memo = cache.folder / f"{digest(words)}.measured"
    found = _measured(experiment, Frozen(network, take=True), memo).items()
    return ", ".join(f"{name} before: {value:.2f}" for name, value in found) or "not measured before"


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
    frozen = Frozen(network, take=True)
    metrics = _measured(experiment, frozen, memo)

    def on(part: Part) -> float:
        return next(iter(_measured(experiment, frozen, memo, part).values()))

    leak = leak_of(experiment, read_state(path).facts, on)
    weights = experiment.teacher.weights
    source = weights if is_published(weights) else str(path)
    return TeacherFile(short_name(name), source, path, key, parameter_count(network), metrics, leak)


def _metric(experiment: Experiment) -> Metric:
    return task_of(experiment).facts().headline


def _headline(experiment: Experiment) -> str:
    """Return the name in rows of what a teacher is measured by."""
    return measured(experiment.measures_teacher_on, _metric(experiment))


def _measured(experiment: Experiment, teacher: Frozen, memo: Path, part: Part | None = None) -> dict[str, float]:
    """Measure the headline metric of a teacher on a part, by default the set that the run reads for this, once.

    A file keeps the value for later trials. Nothing is measured where the test set is never read and no validation set
    is held out.
    """
    task, part = task_of(experiment), part or experiment.measures_teacher_on
    name = measured(part, _metric(experiment))
    if part == "validation":
        if not task.facts().samples[PLACES[part]]:
            return {}
        memo = memo.with_name(f"{memo.stem}-{part}{memo.suffix}")
    if memo.exists():
        try:
            return {name: checkpoint.load(memo)[name]}
        except (RunError, KeyError):
            warnings.warn(f"{memo}: the kept metric is damaged; the teacher is measured again", stacklevel=2)
    compute = experiment.training.compute()
    compute.use_threads()
    compute.place(teacher)
    found = evaluate(teacher, task.evaluation(part, compute.device), task.meter(), compute)
    metrics = {name: found[_metric(experiment).name]}
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
    if teacher.fine_tune is not None:
        load_start(experiment, network)
        return
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
