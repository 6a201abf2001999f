"""What a run tells its listener while it goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from tskd_tune.experiment import Experiment
from tskd_tune.experiment.data import verify_data
from tskd_tune.outside import short_name
from tskd_tune.plain import Json
from tskd_tune.records.row import Row
from tskd_tune.training.record import Line
from tskd_tune.training.teachers import TeacherFile

What = Literal[
    "teacher", "waiting", "ready", "broken", "epoch", "finished", "failed", "note", "interim", "data", "machines"
]


@dataclass(frozen=True)
class Event:
    """Something that happened in a run.

    Attributes:
        what: ``teacher``: an epoch of a teacher's training; ``waiting``: another run trains this teacher now, and this
            run waits; ``ready``: a teacher, trained or verified; ``broken``: a teacher's training broke;
            ``epoch``: an epoch of a student's training;
            ``finished``: a training has its row; ``failed``: a training broke, and only a resume tries it again;
            ``note``: a sentence on a trial; ``interim``: an interim analysis decided to go on or to stop;
            ``data``: something is odd about the data; ``machines``: no machine of the cluster is large enough yet.
        arm: the arm, or the teacher's name; empty for an interim analysis, for data and for machines.
        run: the trial; of a teacher its key, if it has one.
        seed: the training's seed; None for a teacher.
        epoch: the epoch that was trained.
        epochs: how many there are.
        metrics: what the epoch or the row shows; of a teacher its ``parameters`` and the headline metric
            on the test set.
        reason: why it failed or was stopped; of a teacher where it comes from; of an interim
            analysis what was decided; of data what is odd; of machines what is waited for.
    """

    what: What
    arm: str
    run: str | None = None
    seed: int | None = None
    epoch: int = 0
    epochs: int = 0
    metrics: Mapping[str, Json] | None = None
    reason: str | None = None


Listener = Callable[[Event], None]


def teaching_event(experiment: Experiment, key: str | None, record: Line | None) -> Event:
    """Tell of an epoch of the training of an experiment's teacher; without a record another run trains it now."""
    assert experiment.teacher is not None
    name, epochs = short_name(experiment.teacher.name), experiment.teacher.training.epochs
    if record is None:
        return Event("waiting", name, key, epochs=epochs)
    return Event("teacher", name, key, epoch=int(record["epoch"]), epochs=epochs, metrics=record)


def broken_teacher_event(experiment: Experiment, key: str | None, reason: str) -> Event:
    """Tell why the training of an experiment's teacher broke, in one line."""
    assert experiment.teacher is not None
    name, epochs = short_name(experiment.teacher.name), experiment.teacher.training.epochs
    return Event("broken", name, key, epochs=epochs, reason=reason)


def teacher_event(teacher: TeacherFile) -> Event:
    """Tell what a teacher is, once it was trained or verified."""
    facts = {"parameters": teacher.parameters, **teacher.metrics}
    return Event("ready", teacher.name, teacher.key, metrics=facts, reason=teacher.source)


def read_data(experiments: Iterable[Experiment], listener: Listener) -> None:
    """Read the data of experiments before anything is trained, and tell a listener what is odd about it.

    Raises:
        InputError: data is damaged or missing.
        RunError: a download failed.
    """
    for oddity in verify_data(experiments):
        listener(Event("data", "", reason=oddity))


def row_event(row: Row) -> Event:
    """Tell that a training has its row, whether it ended or broke."""
    last = row.epochs - 1
    if row.broke:
        return Event("failed", row.arm, row.run, row.seed, last, row.epochs_planned, row.metrics, row.reason)
    return Event("finished", row.arm, row.run, row.seed, last, row.epochs_planned, row.metrics, row.reason)
