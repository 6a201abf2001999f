"""The events that a run sends to its listener."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from tskd_tune.experiment import Experiment
from tskd_tune.experiment.data import verify_data
from tskd_tune.outside import short_name
from tskd_tune.plain import Document, Json
from tskd_tune.records.entries.leaks import write_leaks
from tskd_tune.records.entries.row import Row
from tskd_tune.records.storing.store import Store
from tskd_tune.tasks.doubles import is_leak
from tskd_tune.training.record import Line
from tskd_tune.training.teachers import TeacherFile

What = Literal[
    "begun", "teacher", "waiting", "ready", "broken", "epoch", "finished", "failed", "note", "interim", "data",
    "machines", "report", "ended",
]  # fmt: skip


@dataclass(frozen=True)
class Event:
    """Something that happened in a run.

    Attributes:
        what: ``begun``: a sweep begins, or goes on after a resume; ``teacher``: an epoch of a teacher's training;
            ``waiting``: another run trains this teacher now, and this run waits;
            ``ready``: a teacher is trained or verified; ``broken``: a teacher's training broke;
            ``epoch``: an epoch of a student's training;
            ``finished``: the row of a training is written; ``failed``: a training broke, and only a resume tries again;
            ``note``: a sentence on a trial; ``interim``: an interim analysis decided to continue or to stop;
            ``data``: the data has something unusual; ``machines``: no machine of the cluster is large enough yet;
            ``report``: the report of a sweep is written; ``ended``: a sweep has ended, well if there is no reason.
        arm: the arm, or the teacher's name; empty for an interim analysis, for data and for machines.
        run: the trial's id; for a teacher the key, if there is one.
        seed: the training's seed; None for a teacher.
        epoch: the epoch that was trained.
        epochs: the number of epochs of the training.
        metrics: the metrics of the epoch or the row; for a teacher ``parameters`` and the headline metric
            on the test set.
        reason: why a training failed or was stopped; for a teacher its origin; for an interim analysis the
            decision; for data what is unusual; for machines the resources that the run waits for; for a report its
            path; for a sweep the error that ended it.
        row: the row, of the events ``finished`` and ``failed`` of trainings.
    """

    what: What
    arm: str
    run: str | None = None
    seed: int | None = None
    epoch: int = 0
    epochs: int = 0
    metrics: Mapping[str, Json] | None = None
    reason: str | None = None
    row: Row | None = None

    def plain(self) -> Document:
        """Return the event as plain data."""
        row = None if self.row is None else self.row.model_dump(mode="json")
        metrics = None if self.metrics is None else dict(self.metrics)
        return {**vars(self), "metrics": metrics, "row": row}


Listener = Callable[[Event], None]


def teaching_event(experiment: Experiment, key: str | None, record: Line | None) -> Event:
    """Make the event of an epoch of a teacher's training; without a record: another run trains the teacher now."""
    assert experiment.teacher is not None
    name, epochs = short_name(experiment.teacher.name), experiment.teacher.learning.epochs
    if record is None:
        return Event("waiting", name, key, epochs=epochs)
    return Event("teacher", name, key, epoch=int(record["epoch"]), epochs=epochs, metrics=record)


def broken_teacher_event(experiment: Experiment, key: str | None, reason: str) -> Event:
    """Make the event that says, in one line, why a teacher's training broke."""
    assert experiment.teacher is not None
    name, epochs = short_name(experiment.teacher.name), experiment.teacher.learning.epochs
    return Event("broken", name, key, epochs=epochs, reason=reason)


def teacher_event(teacher: TeacherFile) -> Event:
    """Make the event of a teacher that was trained or verified."""
    facts = {"parameters": teacher.parameters, **teacher.metrics}
    return Event("ready", teacher.name, teacher.key, metrics=facts, reason=teacher.source)


def read_data(experiments: Iterable[Experiment], listener: Listener) -> None:
    """Read the data of experiments before any training, and report unusual data to a listener.

    Raises:
        InputError: data is damaged or missing.
        RunError: a download failed.
    """
    for oddity in verify_data(experiments):
        listener(Event("data", "", reason=oddity))


def keep_leaks(store: Store, experiments: Iterable[Experiment]) -> None:
    """Keep, for the report, where sets of the data share images; verified before, the data are not read again.

    Raises:
        RunError: the run's store cannot be written.
    """
    write_leaks(store, [sentence for sentence in verify_data(experiments) if is_leak(sentence)])


def row_event(row: Row) -> Event:
    """Make the event of a written row, of a training that ended or broke."""
    what: What = "failed" if row.broke else "finished"
    facts = (row.epochs - 1, row.epochs_planned, row.metrics, row.reason)
    return Event(what, row.arm, row.run, row.seed, *facts, row=row)
