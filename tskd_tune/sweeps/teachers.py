"""Trains the teachers of a sweep before its trials, on the same resources, and sends the teachers to all trials.

So no trial holds a GPU while another trial trains a teacher, and machines need not share a cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import ray

from tskd_tune import documents
from tskd_tune.errors import RunError
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.teacher import is_ready, obtain
from tskd_tune.files import write_whole
from tskd_tune.records.entries.events import Listener, broken_teacher_event, teacher_event, teaching_event
from tskd_tune.sweeps.declared.teacher_keys import told_apart
from tskd_tune.sweeps.machines.waiting import Patience
from tskd_tune.sweeps.recorder import reason_of_loss
from tskd_tune.training.record import Line
from tskd_tune.training.teachers import TeacherCache, TeacherFile

Content = tuple[TeacherFile, bytes]
# More threads than this help a small network little.
MOST_CORES = 8


def prepare(
    experiments: Mapping[str, Experiment], resources: Mapping[str, float], listener: Listener
) -> dict[str, Content]:
    """Return every teacher with the content of its file; a teacher that is not in the cache is trained first.

    Raises:
        RunError: a training failed; the teachers trained before are kept in the cache.
    """
    cache, names = TeacherCache(), told_apart(experiments)
    teachers: dict[str, Content] = {}
    for key, experiment in experiments.items():
        tell = _named(listener, names[key])
        if is_ready(experiment, cache):
            found = obtain(experiment, cache, progress=lambda record: None)
            teachers[key] = _with_content(found)
        else:
            teachers[key] = _remotely(key, names[key], experiment, resources, tell)
        tell(teacher_event(teachers[key][0]))
    return teachers


def _named(listener: Listener, name: str) -> Listener:
    """Return a listener that hears of a teacher under a name that no other teacher of the sweep has."""
    return lambda event: listener(replace(event, arm=name) if event.arm else event)


def _remotely(key: str, name: str, experiment: Experiment, resources: Mapping[str, float], tell: Listener) -> Content:
    gpus = resources.get("gpu", 0)
    threads = int(resources["cpu"]) if gpus else _idle_cores(int(resources["cpu"]))
    document = documents.merge(experiment.plain(), {"training": {"threads": threads}})
    task: Any = ray.remote(_train).options(num_cpus=threads, num_gpus=gpus, num_returns="streaming", max_retries=3)
    last: Any = None
    patience = Patience(f"the training of teacher {name}", resources, tell)
    try:
        for reference in _as_they_come(task.remote(document), patience):
            last = ray.get(reference)
            if last is None or isinstance(last, dict):
                tell(teaching_event(experiment, key, last))
    except ray.exceptions.RayError as error:
        reason = reason_of_loss(error)
        tell(broken_teacher_event(experiment, key, reason))
        raise RunError(
            f"teacher {name}: its training broke, so no student was trained: {reason}; remove the cause, then resume"
            " the run"
        ) from error
    teacher, content = last
    assert teacher.key is not None
    path = TeacherCache().path(teacher.key)
    if not path.exists() or path.read_bytes() != content:
        write_whole(path, content)
    return teacher, content


def _as_they_come(results: Any, patience: Patience) -> Iterator[Any]:
    """Yield the references of a streaming task, and say what is waited for until the task begins, which comes first."""
    while not ray.wait([results], timeout=1.0)[0]:
        patience.wait()
    ray.get(next(results))
    yield from results


def _with_content(teacher: TeacherFile | None) -> Content:
    assert teacher is not None and teacher.path is not None
    return teacher, teacher.path.read_bytes()


def _idle_cores(least: int) -> int:
    """Return the number of cores for a teacher: the cores of the largest machine, at most 8, at least ``least``."""
    machines = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    return max(least, min(MOST_CORES, max(machines, default=least)))


def _train(document: Mapping[str, object]) -> Iterator[Line | Content | None]:
    """Train on a worker: yield the record of every epoch, and at the end the teacher and its file's content.

    While another run trains the teacher, None is yielded. The first None says that the task has begun.
    """
    yield None
    import queue
    import threading

    experiment = Experiment.read(document)
    events: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def work() -> None:
        try:
            found = obtain(experiment, TeacherCache(), events.put)
            events.put(_with_content(found))
        except BaseException as error:  # handed over to the generator below, which raises it
            events.put(error)

    threading.Thread(target=work, daemon=True).start()
    while True:
        item = events.get()
        if isinstance(item, BaseException):
            raise item
        yield item
        if isinstance(item, tuple):
            return
