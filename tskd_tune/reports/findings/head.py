"""What was run: the question, the task, teacher, student, epochs, arms, seeds and devices; a report begins with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tskd_tune.records.row import UNKNOWN, Row
from tskd_tune.records.run_folder import RunFolder
from tskd_tune.reports.findings.grouping import distinct
from tskd_tune.reports.judge.words import count

Head = dict[str, Any]


def head(run: RunFolder, rows: Sequence[Row], arms: int) -> Head:
    """Return what was run as plain data, from the rows; what an older version did not record is None or missing.

    Keys: ``question`` and ``file`` of the run's origin; ``tasks``, each with ``name`` and the fields of
    `records.row.DataRecord`; ``students``, ``epochs``, ``arms``, ``seeds`` and
    ``devices``.
    """
    return {
        "question": run.origin.question,
        "file": run.origin.file,
        "tasks": _tasks(rows),
        "students": distinct(row.experiment["student"]["name"] for row in rows if row.experiment.get("student")),
        "epochs": sorted({row.epochs_planned for row in rows}),
        "arms": arms,
        "seeds": sorted({row.seed for row in rows}),
        "devices": distinct(_device(row) for row in rows if row.cost.device != UNKNOWN),
    }


def _tasks(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return each task, with its data where a row has it: one that broke at its beginning has none."""
    found = distinct(_task(row) for row in rows)
    known = {task["name"] for task in found if len(task) > 1}
    return [task for task in found if len(task) > 1 or task["name"] not in known]


def _task(row: Row) -> dict[str, Any]:
    name = (row.experiment.get("task") or {}).get("name")
    return {"name": name} | (row.data.plain() if row.data else {})


def _device(row: Row) -> str:
    return f"{row.cost.device}, {count(row.cost.threads, 'thread')}"
