"""The head of a report: question, task, teacher, student, epochs, arms, seeds and devices of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tskd_tune.records.entries.row import UNKNOWN, DataRecord, Row
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.reports.findings.grouping import distinct
from tskd_tune.reports.findings.records import name_of
from tskd_tune.words import count


@dataclass(frozen=True)
class TrainedTask:
    """A task, and the facts of its data where a row has these facts."""

    name: str | None
    data: DataRecord | None


@dataclass(frozen=True)
class Head:
    """The head of a report. ``question`` and ``file`` are the run's origin; None where an older version kept none."""

    question: str | None
    file: str | None
    tasks: tuple[TrainedTask, ...]
    students: tuple[str, ...]
    epochs: tuple[int, ...]
    arms: int
    seeds: tuple[int, ...]
    devices: tuple[str, ...]


def head(run: RunFolder, rows: Sequence[Row], arms: int) -> Head:
    """Return the head of a report, from the rows and the run's origin."""
    students = [name for row in rows if (name := name_of(row.experiment, "student"))]
    return Head(
        question=run.origin.question,
        file=run.origin.file,
        tasks=tuple(_tasks(rows)),
        students=tuple(distinct(students)),
        epochs=tuple(sorted({row.epochs_planned for row in rows})),
        arms=arms,
        seeds=tuple(sorted({row.seed for row in rows})),
        devices=tuple(distinct(_device(row) for row in rows if row.cost.device != UNKNOWN)),
    )


def _tasks(rows: Sequence[Row]) -> list[TrainedTask]:
    """Return each task with the facts of its data; a training that broke at the beginning has no such facts."""
    found = distinct(TrainedTask(name_of(row.experiment, "task"), row.data) for row in rows)
    known = {task.name for task in found if task.data}
    return [task for task in found if task.data or task.name not in known]


def _device(row: Row) -> str:
    workers = f", {row.cost.workers} workers for each run" if row.cost.workers > 1 else ""
    return f"{row.cost.device}, {count(row.cost.threads, 'thread')}{workers}"
