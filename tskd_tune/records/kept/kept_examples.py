"""Writes the examples of a training that has ended, and once a run the pictures and the answers of a teacher.

What the student answers was collected while the part was evaluated; only a teacher is evaluated once more. If examples
cannot be made, the training has a warning: they are not worth a training.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar, runtime_checkable

from torch import Tensor

from tskd_tune.experiment import Experiment
from tskd_tune.experiment.assembly import teacher_network
from tskd_tune.method.memory import Frozen
from tskd_tune.metrics import Part
from tskd_tune.networks.weights import load_into
from tskd_tune.records.entries.row import Record
from tskd_tune.records.kept.examples import EXAMPLES, Examples, Pictures, pictures_file, teacher_file
from tskd_tune.records.kept.kept_files import written
from tskd_tune.records.sessions.breakage import reason_of
from tskd_tune.records.sessions.session import Session
from tskd_tune.records.sessions.workplace import TrainingFiles, Workplace
from tskd_tune.tasks.base import Task
from tskd_tune.tasks.examples import Breakdown, Showing, picture
from tskd_tune.training.evaluation import Evaluations, Shown
from tskd_tune.training.teachers import TeacherFile

R = TypeVar("R", bound=Record)


class Seen(Protocol):
    """Samples by index."""

    def __getitem__(self, index: int, /) -> Tensor:
        """Return one sample as bytes ``[C, H, W]``."""


@runtime_checkable
class Pictured(Protocol):
    """A source that reads single samples of a part, as bytes ``[C, H, W]``."""

    def samples(self, part: Part) -> Seen:
        """Return the samples of a part."""


@runtime_checkable
class Named(Protocol):
    """Samples with names, such as the ids of images."""

    def name(self, index: int) -> str:
        """Return the name of a sample."""


def keep_examples(session: Session, place: Workplace, files: TrainingFiles) -> None:
    """Write what a training that has ended can show into its folder, and what all trainings share into the run's.

    Raises:
        RunError: the disk is full, or the storage refuses or fails for long.
    """
    part = part_of(session.experiment, session.trainer.task)
    wanted = session.experiment.evaluation.examples
    if part is None:
        return
    own = _made(session, lambda: _own(session, part, kept=wanted != "none"))
    if own is None:
        return
    files.put(EXAMPLES, written(own))
    if own.answers is None:
        return
    task: Task = session.trainer.task
    _once(session, place, pictures_file(own.data), lambda: _pictures(task, own, seen=wanted == "pictures"))
    teacher = session.teacher
    if teacher is not None and teacher.key is not None:
        name = teacher_file(own.data, teacher.key)
        _once(session, place, name, lambda: _of_teacher(session, teacher, own))


def part_of(experiment: Experiment, task: Task) -> Part | None:
    """Return the part whose samples are shown: the test set, or the validation set where no test set is read.

    None where neither is evaluated in the last epoch.
    """
    samples, schedule = task.facts().samples, experiment.schedule()
    if schedule.tests(schedule.epochs - 1) and samples[2] > 0:
        return "test"
    return "validation" if samples[1] > 0 else None


def _once(session: Session, place: Workplace, name: str, make: Callable[[], Record | None]) -> None:
    """Write a file that all trainings share, unless another training has written it."""
    if place.lacks(name):
        made = _made(session, make)
        if made is not None:
            place.keep(name, written(made))


def _made(session: Session, make: Callable[[], R | None]) -> R | None:
    """Make a record; if that fails, the row has a warning."""
    try:
        return make()
    except Exception as error:  # a task of another package may raise any exception
        session.warn(f"examples: they could not be made for the report ({reason_of(error)}); the training is complete")
        return None


def _own(session: Session, part: Part, *, kept: bool) -> Examples | None:
    """Return the answers of a training's student; None where the task shows nothing."""
    trainer = session.trainer
    if not kept and not trainer.evaluations.has(trainer.student, part):
        return None  # not worth another evaluation
    shown = trainer.evaluations.shown(trainer.student, part)
    trainer.compute.synchronize()  # the answers are read in another stream than that which computed them
    if not shown.breakdowns and (shown.answers is None or not kept):
        return None
    return _examples(trainer.task, part, shown, kept=kept)


def _of_teacher(session: Session, teacher: TeacherFile, like: Examples) -> Examples:
    """Return the answers of a teacher as it was before the student's training; its file is read again."""
    experiment, trainer = session.experiment, session.trainer
    network = teacher_network(experiment, trainer.task.facts())
    assert teacher.path is not None
    load_into(network, teacher.path, name=teacher.name)
    compute = replace(trainer.compute, group=None)
    with compute.lane():
        frozen = compute.place(Frozen(network, take=True))
        shown = Evaluations(trainer.task, compute, trainer.schedule).shown(frozen, like.part)
        return _examples(trainer.task, like.part, shown, kept=True)


def _examples(task: Task, part: Part, shown: Shown, *, kept: bool) -> Examples:
    answers = shown.answers
    samples = [] if answers is None else answers.chosen
    content = {
        "part": part,
        "data": data_of(task, part, samples),
        "samples": samples,
        "answers": shown.plain() if kept else None,
        "breakdowns": [_plain(one) for one in shown.breakdowns],
    }
    return Examples.model_validate(content)


def data_of(task: Task, part: Part, samples: Sequence[int]) -> str:
    """Return the digest of the data, a part and the chosen samples."""
    words = json.dumps([task.fingerprint(), part, *samples])
    return hashlib.sha256(words.encode()).hexdigest()[:12]


def _plain(one: Breakdown) -> dict[str, object]:
    return {
        "name": one.name,
        "title": one.title,
        "axis": one.axis,
        "metric": one.metric.plain(),
        "labels": [*one.labels],
        "values": [*one.values],
        "ordered": one.ordered,
    }


def _pictures(task: Task, like: Examples, *, seen: bool) -> Pictures:
    """Return the classes; also names and pictures of the samples, if they are asked for and the source has them."""
    objective, source = task.objective, task.source
    classes = [*task.summary().classes]
    if not seen or not isinstance(objective, Showing) or not isinstance(source, Pictured):
        return Pictures(classes=classes)
    samples, pixels = source.samples(like.part), objective.answering(task.facts(), like.part).pixels
    names = [samples.name(index) for index in like.samples] if isinstance(samples, Named) else []
    return Pictures(classes=classes, names=names, images=[picture(samples[index], pixels) for index in like.samples])
