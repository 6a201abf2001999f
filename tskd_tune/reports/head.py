"""What was run: the question, the task, teacher, student, epochs, arms, seeds and devices; a report begins with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tskd_tune.records.results import UNKNOWN, Row, RunFolder
from tskd_tune.reports.grouping import distinct
from tskd_tune.reports.words import count, runs_of

MOST_NAMED = 6
Head = dict[str, Any]


def head(run: RunFolder, rows: Sequence[Row], arms: int) -> Head:
    """Return what was run as plain data, from the rows; what an older version did not record is None or missing.

    Keys: ``question`` and ``file`` of the run's origin; ``tasks``, each with ``name``, ``classes``, ``samples``
    (training, validation, test), ``size`` and ``channels``; ``students``, ``epochs``, ``arms``, ``seeds`` and
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


# Words


def head_lines(found: Mapping[str, Any]) -> list[str]:
    """Return the head of a summary in sentences: the question first, the device last."""
    it = found["head"]
    question = [it["question"]] if it["question"] else []
    tasks = [_task_line(task) for task in it["tasks"] if task["name"]]
    return [*question, *tasks, *map(teacher_line, found["teachers"]), *_student_line(it), *_device_line(it)]


def _task_line(task: Mapping[str, Any]) -> str:
    if "samples" not in task:
        return f"Task {task['name']}."
    training, validation, test = task["samples"]
    parts = [f"{number:,} {part}" for part, number in (("validation", validation), ("test", test)) if number]
    images = " and ".join([", ".join([f"{training:,} training", *parts[:-1]]), *parts[-1:]])
    colors = "gray" if task["channels"] == 1 else "color" if task["channels"] == 3 else f"{task['channels']}-channel"
    size = f"{task['size']} x {task['size']} pixels"
    return f"Task {task['name']}: {count(task['classes'], 'class', 'classes')}; {images} images, {colors}, {size}."


def teacher_line(teacher: Mapping[str, Any]) -> str:
    """Return a sentence on a teacher: its accuracy, where it came from and its size."""
    origin = f"trained here, key {teacher['key']}" if teacher["source"] == "auto" else teacher["source"]
    size = f", {teacher['parameters'] / 1e6:.2f} M parameters" if teacher["parameters"] else ""
    accuracy = (
        f"test top-1 {teacher['test_top1']:.2f} %" if teacher["test_top1"] is not None else "accuracy not measured"
    )
    return f"Teacher {teacher['name']}: {accuracy} ({origin}{size})."


def _student_line(it: Mapping[str, Any]) -> list[str]:
    if not it["seeds"]:
        return []
    students = f"Student{'' if len(it['students']) == 1 else 's'} {_few(it['students'])}: " if it["students"] else ""
    epochs = (
        f"{it['epochs'][0]} to {it['epochs'][-1]} epochs" if len(it["epochs"]) > 1 else count(it["epochs"][0], "epoch")
    )
    seeds = f"{count(len(it['seeds']), 'seed')} ({runs_of(it['seeds'])})"
    return [f"{students}{epochs}; {count(it['arms'], 'arm')}, {seeds}."]


def _device_line(it: Mapping[str, Any]) -> list[str]:
    return [f"Trained on {_few(it['devices'], '; ')}."] if it["devices"] else []


def _few(names: Sequence[str], between: str = ", ") -> str:
    rest = len(names) - MOST_NAMED
    return between.join(names[:MOST_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def setting_lines(found: Mapping[str, Any]) -> list[str]:
    """Return what differs from the preset: first what all arms share, then a sentence for each group of arms."""
    settings = found["settings"]
    presets = {item["preset"] for item in settings}
    shared = _shared([item["deviations"] for item in settings]) if len(settings) > 1 and len(presets) == 1 else []
    common = [f"every arm: preset {settings[0]['preset']}; {'; '.join(shared)}"] if shared else []
    return [*common, *(_setting_line(item, shared) for item in settings)]


def _setting_line(item: Mapping[str, Any], shared: Sequence[str]) -> str:
    own = [line for line in item["deviations"] if line not in shared]
    preset = "" if shared else f"preset {item['preset']}; "
    return f"{'; '.join(item['arms'])}: {preset}{'; '.join(own) or ('nothing else' if shared else 'no deviation')}"


def _shared(deviations: Sequence[Sequence[str]]) -> list[str]:
    return [line for line in deviations[0] if all(line in other for other in deviations)]
