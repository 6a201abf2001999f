"""The head of a report in sentences, and the differences of the arms from the preset."""

from __future__ import annotations

from collections.abc import Sequence

from tskd_tune.metrics import PREFIXES, Measured, Metric, metric_of
from tskd_tune.records.entries.row import TeacherRecord
from tskd_tune.records.entries.teacher_names import teacher_seed
from tskd_tune.reports.findings.head import Head, TrainedTask
from tskd_tune.reports.findings.records import Deviations
from tskd_tune.reports.findings.summary import Findings
from tskd_tune.reports.findings.teachers import lone_teachers
from tskd_tune.reports.judge.words import runs_of
from tskd_tune.words import count

MOST_NAMED = 6


def head_lines(found: Findings) -> list[str]:
    """Return the head of a report in sentences: the question first, the device last.

    Before them, sentences say what was changed since the start, and whether the verdicts are exploratory.
    """
    it = found.head
    exploratory = [found.family.family.exploratory] if found.family and found.family.family.exploratory else []
    question = [it.question] if it.question else []
    tasks = list(dict.fromkeys(task_line(task) for task in it.tasks if task.name))
    seeds = {row.teacher.key: seed for row in found.rows if row.teacher and (seed := teacher_seed(row)) is not None}
    teachers = [teacher_line(teacher, found.measures, seed=seeds.get(teacher.key)) for teacher in found.teachers]
    leaks = [f"Leak: {sentence}." for sentence in found.leaks]
    lone = _lone_line(lone_teachers(found.arms))
    opening = [*found.frozen, *exploratory, *question, *leaks]
    return [*opening, *tasks, *teachers, *lone, *_student_line(it), *_device_line(it)]


def task_line(task: TrainedTask) -> str:
    """Return a sentence on a task: its classes and images."""
    if task.data is None:
        return f"Task {task.name}."
    training, validation, test = task.data.samples
    parts = [f"{number:,} {part}" for part, number in (("validation", validation), ("test", test)) if number]
    images = " and ".join([", ".join([f"{training:,} training", *parts[:-1]]), *parts[-1:]])
    channels, *shape = task.data.inputs
    colors = "gray" if channels == 1 else "color" if channels == 3 else f"{channels}-channel"
    known = [str(length) for length in shape if length is not None]
    size = f"{' x '.join(known)} pixels" if len(known) == len(shape) else "of different sizes"
    return f"Task {task.name}: {count(task.data.outputs, 'class', 'classes')}; {images} images, {colors}, {size}."


def teacher_line(teacher: TeacherRecord, metrics: Sequence[Metric] = (), *, seed: int | None = None) -> str:
    """Return a sentence on a teacher: its measured values, its source and its size.

    Args:
        teacher: the teacher.
        metrics: the metrics that the rows declare.
        seed: its seed, where the sweep trained several teachers.
    """
    named = teacher.name if seed is None else f"{teacher.name} of seed {seed}"
    key = f", key {teacher.key}" if teacher.key else ""
    origin = f"{'trained here' if teacher.source == 'auto' else teacher.source}{key}"
    size = f", {teacher.parameters / 1e6:.2f} M parameters" if teacher.parameters else ""
    known = [(name, value) for name, value in teacher.metrics.items() if value is not None]
    measured = ", ".join(_value_line(name, value, metrics) for name, value in known)
    return f"Teacher {named}: {measured or 'accuracy not measured'} ({origin}{size})."


def _lone_line(teachers: Sequence[TeacherRecord]) -> list[str]:
    """Say for which teacher the conclusions hold, where each arm has one; other teachers may give others."""
    names = [f"{teacher.name} (key {(teacher.key or '')[:8]})" for teacher in teachers]
    if not names:
        return []
    if len(names) == 1:
        return [f"The conclusions hold for this one teacher: {names[0]}. Another teacher may give others."]
    return [f"Each conclusion holds for the one teacher of its arms: {_few(names)}. Another teacher may give others."]


def _value_line(name: str, value: float, metrics: Sequence[Metric]) -> str:
    """Return a measured value with its set and its metric: ``test loss 0.3012``."""
    metric, found = metric_of(name, metrics), Measured.read(name)
    return f"{f'{PREFIXES[found.part]} ' if found else ''}{metric.title} {metric.text(value)}"


def _student_line(it: Head) -> list[str]:
    if not it.seeds:
        return []
    students = f"Student{'' if len(it.students) == 1 else 's'} {_few(it.students)}: " if it.students else ""
    epochs = f"{it.epochs[0]} to {it.epochs[-1]} epochs" if len(it.epochs) > 1 else count(it.epochs[0], "epoch")
    seeds = f"{count(len(it.seeds), 'seed')} ({runs_of(it.seeds)})"
    return [f"{students}{epochs}; {count(it.arms, 'arm')}, {seeds}."]


def _device_line(it: Head) -> list[str]:
    return [f"Trained on {_few(it.devices, '; ')}."] if it.devices else []


def _few(names: Sequence[str], between: str = ", ") -> str:
    rest = len(names) - MOST_NAMED
    return between.join(names[:MOST_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def setting_lines(settings: Sequence[Deviations]) -> list[str]:
    """Return the differences from the preset: first those of all arms, then a sentence for each group of arms."""
    presets = {item.preset for item in settings}
    shared = _shared([item.deviations for item in settings]) if len(settings) > 1 and len(presets) == 1 else []
    common = [f"every arm: preset {settings[0].preset}; {'; '.join(shared)}"] if shared else []
    return [*common, *(_setting_line(item, shared) for item in settings)]


def _setting_line(item: Deviations, shared: Sequence[str]) -> str:
    own = [line for line in item.deviations if line not in shared]
    preset = "" if shared else f"preset {item.preset}; "
    return f"{'; '.join(item.arms)}: {preset}{'; '.join(own) or ('nothing else' if shared else 'no deviation')}"


def _shared(deviations: Sequence[Sequence[str]]) -> list[str]:
    return [line for line in deviations[0] if all(line in other for other in deviations)]
