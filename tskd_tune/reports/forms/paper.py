"""A table of the TSKD paper with a run's measured values beside the cells. The values are marked and have no verdicts.

The conditions in ``paper_tables.yaml`` and the resolved experiment of an arm decide to which cell the arm belongs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, TypeAdapter

from tskd_tune import documents
from tskd_tune.errors import InputError, did_you_mean
from tskd_tune.plain import Json
from tskd_tune.records.entries.row import TeacherRecord
from tskd_tune.records.entries.teacher_names import identity_of, told_apart
from tskd_tune.reports.findings.records import NOTHING, ArmFindings, Statistic, name_of, part
from tskd_tune.reports.findings.summary import Findings
from tskd_tune.reports.judge.values import Interval
from tskd_tune.words import count

SOURCE: Final = "arXiv 2307.00811v1"

Conditions = Mapping[str, str | int | float | bool | list[str] | None]
"""Path in an experiment -> the value that belongs to a cell, or several of them."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class PaperColumn(_Part):
    """A column of a table: the conditions for its arms, and the metric of its cells, as named in rows."""

    title: str
    match: dict[str, str | int | float | bool | list[str] | None]
    ours: str | None = None


class PaperRow(_Part):
    """A line of a table: the printed values by column, the conditions for arms, and whether it is their teacher's."""

    title: str
    values: list[float]
    match: dict[str, str | int | float | bool | list[str] | None] | None = None
    teacher: bool = False


class PaperTable(_Part):
    """A table of the paper as printed."""

    title: str
    metric: str
    task: str
    epochs: int | None = None
    runs: int | None = None
    columns: list[PaperColumn]
    rows: list[PaperRow]
    footnotes: list[str]


@dataclass(frozen=True)
class Ours:
    """An arm or a teacher whose values are shown beside a cell.

    Attributes:
        arm: the label.
        last: the metric at the last epoch.
        interval: the interval of the mean at the last epoch.
        beyond: whether the interval goes beyond the scale of the metric.
        best_test: the metric at the best test epoch.
        comparable: whether the dataset is the paper's.
        mind: sentences on the differences from the paper.
    """

    arm: str
    last: Statistic
    interval: Interval | None
    beyond: bool
    best_test: Statistic
    comparable: bool
    mind: tuple[str, ...]


@dataclass(frozen=True)
class Cell:
    """A cell of the paper's table with the printed number, and every arm that is shown beside the cell."""

    column: str
    row: str
    paper: float
    ours: tuple[Ours, ...]


@dataclass(frozen=True)
class Beside:
    """A table of the paper with the arms of a run beside its cells.

    ``alone`` says why no arm belongs beside a cell; empty where at least one arm does.
    """

    table: str
    title: str
    metric: str
    mark: str
    cells: tuple[Cell, ...]
    alone: str
    footnotes: tuple[str, ...]


@cache
def paper_tables() -> Mapping[str, PaperTable]:
    """Return the paper's tables by name."""
    read = documents.read(Path(__file__).with_name("paper_tables.yaml"))
    return TypeAdapter(dict[str, PaperTable]).validate_python(read)


def named(name: str) -> str:
    """Return the full name of a table; the table is given by its full name or by its number, such as ``table6``.

    Raises:
        InputError: the paper has no such table.
    """
    for full in paper_tables():
        if name in (full, full.partition("_")[0]):
            return full
    raise InputError(f"--paper: there is no table '{name}'{did_you_mean(name, map(_short, paper_tables()))}")


def _short(full: str) -> str:
    return full.partition("_")[0]


def beside(found: Findings, name: str) -> Beside:
    """Return a table of the paper with the arms of a run beside its cells.

    Raises:
        InputError: the paper has no such table.
    """
    full = named(name)
    table = paper_tables()[full]
    cells = tuple(
        Cell(column.title, row.title, row.values[index], tuple(_ours(found, table, row, column)))
        for row in table.rows
        for index, column in enumerate(table.columns)
    )
    runs = f"{table.runs} runs" if table.runs else "number of runs not stated"
    return Beside(
        table=full,
        title=table.title,
        metric=table.metric,
        mark=f"paper, {runs}, no standard deviation ({SOURCE})",
        cells=cells,
        alone="" if any(cell.ours for cell in cells) else _alone(found),
        footnotes=tuple(table.footnotes),
    )


def _alone(found: Findings) -> str:
    """Say that no arm of the run belongs beside a cell, and name the networks of the arms."""
    experiments = {row.run: row.experiment for row in found.rows}.values()
    pairs = dict.fromkeys(
        f"{name_of(experiment, 'teacher') or 'no teacher'} → {name_of(experiment, 'student')}"
        for experiment in experiments
    )
    return (
        f"No arm of this run has the networks and the method of a cell: it has {', '.join(pairs) or 'no finished run'}."
        " The search spaces that are called table... (`tskd-tune init`) train what the cells name."
    )


def _ours(found: Findings, table: PaperTable, row: PaperRow, column: PaperColumn) -> list[Ours]:
    """Return the arms that meet the conditions of a cell; in a teacher's line, the teachers of the column."""
    if column.ours is None or not (row.match is not None or row.teacher):
        return []
    conditions = {**column.match, **(row.match or {})}
    arms = [arm for arm in found.arms if _meets(arm.experiment, conditions)]
    if row.teacher:
        return _teachers(arms, found, column.ours, table)
    return [_measured(arm, found.headline, column.ours, table) for arm in arms]


def _measured(arm: ArmFindings, headline: str, metric: str, table: PaperTable) -> Ours:
    data = _other_data(arm.experiment, table)
    return Ours(
        arm=arm.arm,
        last=arm.metric(metric),
        interval=arm.statistics.interval if headline == metric else None,
        beyond=headline == metric and arm.beyond,
        best_test=arm.best_test,
        comparable=not data,
        mind=(*data, *_other_recipe(arm, table), *_lost(arm)),
    )


def _teachers(arms: Sequence[ArmFindings], found: Findings, metric: str, table: PaperTable) -> list[Ours]:
    """Return the teachers of a column's arms; each teacher was trained once."""
    names = {name_of(arm.experiment, "teacher") for arm in arms}
    data = next((_other_data(arm.experiment, table) for arm in arms), [])
    told = told_apart(found.teachers)
    return [
        _teacher(teacher, told[identity_of(teacher)], metric, data)
        for teacher in found.teachers
        if teacher.name in names
    ]


def _teacher(teacher: TeacherRecord, name: str, metric: str, data: Sequence[str]) -> Ours:
    return Ours(
        arm=f"teacher {name}",
        last=Statistic.over([teacher.metrics.get(metric)]),
        interval=None,
        beyond=False,
        best_test=NOTHING,
        comparable=not data,
        mind=tuple(data),
    )


def _other_data(experiment: Mapping[str, Json], table: PaperTable) -> list[str]:
    name = name_of(experiment, "task")
    return [] if name == table.task else [f"other data ({name}): not comparable"]


def _other_recipe(arm: ArmFindings, table: PaperTable) -> list[str]:
    """Say where an arm has another number of epochs than the paper, or fewer training images."""
    task, said = part(arm.experiment, "task"), []
    if arm.epochs_planned != table.epochs:
        said.append(f"{count(arm.epochs_planned, 'epoch')} instead of {table.epochs}")
    if task.get("validation"):
        said.append(f"{task['validation']} training images held out for validation")
    fraction = task.get("fraction")
    if isinstance(fraction, int | float) and fraction != 1.0:
        said.append(f"trained on {100 * fraction:g} % of the images")
    return said


def _lost(arm: ArmFindings) -> list[str]:
    ends = [(arm.failed, "failed"), (arm.stopped, "stopped early")]
    return [f"{count(seeds, 'seed')} {how}" for seeds, how in ends if seeds]


def _meets(experiment: Mapping[str, Json], conditions: Conditions) -> bool:
    return all(_holds(experiment, path, expected) for path, expected in conditions.items())


def _holds(experiment: Mapping[str, Json], path: str, expected: Json) -> bool:
    """Whether a value is as expected. An option that a row lacks did not exist when the row was written, and passes."""
    given: Json = experiment
    for name in path.split("."):
        if not isinstance(given, Mapping):
            return False
        if name not in given:
            return True
        given = given[name]
    return given in expected if isinstance(expected, list) else given == expected
