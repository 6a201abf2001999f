"""Rows of arms that were trained under several teachers: the teacher's seed stands in the point of a row.

A seed of the student counts where it has a value under each teacher of its arm. So the table of teachers and seeds of a
comparison is complete, and its analysis of variance is balanced.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence

from tskd_tune.plain import Json
from tskd_tune.records.entries.row import Row
from tskd_tune.records.entries.teacher_names import SEED, teacher_seed


def by_seed(rows: Sequence[Row], value: Callable[[Row], float | None]) -> dict[int, float]:
    """Return seed -> the value of the rows that are done and have one.

    Under several teachers it is the mean over the teachers, for the seeds that have a value under each of them.
    """
    done = [(row, found) for row in rows if row.status == "done" and (found := value(row)) is not None]
    cells = _cells(rows, value)
    if not cells:
        return {row.seed: found for row, found in done}
    return {
        seed: statistics.fmean(found[seed] for found in cells.values())
        for seed in dict.fromkeys(row.seed for row, _ in done)
        if all(seed in found for found in cells.values())
    }


def over_seeds(rows: Sequence[Row], value: Callable[[Row], float | None]) -> list[float | None]:
    """Return the value of each row that is done; under several teachers, the mean of each seed that has them all."""
    if has_several(rows):
        return [*by_seed(rows, value).values()]
    return [value(row) for row in rows if row.status == "done"]


def has_several(rows: Sequence[Row]) -> bool:
    """Tell whether rows belong to an arm under several teachers."""
    return any(teacher_seed(row) is not None for row in rows)


def cells_of(rows: Sequence[Row], metric: str, declared: Sequence[int] = ()) -> dict[int, dict[int, float]]:
    """Return teacher's seed -> seed -> the last epoch's value of a metric; empty without several teachers.

    A declared teacher without a row has an empty entry.
    """
    found = _cells(rows, lambda row: row.metrics.get(metric))
    unseen: dict[int, dict[int, float]] = {seed: {} for seed in _unseen(rows, declared)}
    return dict(sorted({**unseen, **found}.items()))


def _cells(rows: Sequence[Row], value: Callable[[Row], float | None]) -> dict[int, dict[int, float]]:
    """Return the cells of an arm. A teacher whose students have rows, but no value, has an empty entry."""
    found: dict[int, dict[int, float]] = {}
    for row in rows:
        if (teacher := teacher_seed(row)) is None:
            continue
        of = found.setdefault(teacher, {})
        if row.status == "done" and (known := value(row)) is not None:
            of[row.seed] = known
    return dict(sorted(found.items()))


def _unseen(rows: Sequence[Row], declared: Sequence[int]) -> list[int]:
    """Return the declared teachers of an arm that have no row; none for an arm without several teachers."""
    seen = {teacher_seed(row) for row in rows}
    return [seed for seed in declared if seed not in seen] if has_several(rows) else []


def unseen_notes(rows: Mapping[str, Sequence[Row]], declared: Sequence[int]) -> list[str]:
    """Say under which declared teachers an arm has no run at all; then none of its seeds counts.

    Args:
        rows: label -> the rows of the arm.
        declared: the seeds of the teachers that the sweep declares.
    """
    found = {label: gone for label, of in rows.items() if (gone := _unseen(of, declared))}
    return [
        f"'{label}' has no run under {'teacher' if len(gone) == 1 else 'teachers'} {', '.join(map(str, gone))} of the"
        f" declared teachers {', '.join(map(str, declared))}, so it has no verdict, and its mean is over the others;"
        " train what is missing with `tskd-tune resume`."
        for label, gone in found.items()
    ]


def ended_seeds(rows: Sequence[Row], has_ended: Callable[[Row], bool], declared: Sequence[int] = ()) -> set[int]:
    """Return the seeds whose training has ended, under several teachers under each of them.

    Args:
        rows: the rows of an arm.
        has_ended: tells whether the training of a row has ended.
        declared: the seeds of the teachers that the sweep declares, which may have no row yet.
    """
    teachers = {*map(teacher_seed, rows), *_unseen(rows, declared)}
    ended: dict[int, set[int | None]] = {}
    for row in rows:
        if has_ended(row):
            ended.setdefault(row.seed, set()).add(teacher_seed(row))
    return {seed for seed, under in ended.items() if under == teachers}


def configurations(rows: Sequence[Row]) -> int:
    """Return the number of configurations of an arm: one per teacher."""
    return len({teacher_seed(row) for row in rows})


def without_teacher(point: Mapping[str, Json]) -> dict[str, Json]:
    """Return a point without the seed of its teacher: what the runs of an arm have in common."""
    return {name: value for name, value in point.items() if name != SEED}


def run_text(row: Row) -> str:
    """Return the seed of a row, with that of its teacher where there are several: ``3 (teacher 1)``."""
    teacher = teacher_seed(row)
    return str(row.seed) if teacher is None else f"{row.seed} (teacher {teacher})"
