"""The Pareto front of a sweep: the points that no other point dominates.

A search's objectives are metrics of the validation set, ``seconds`` and ``memory``; never a metric of the test set. A
grid selects nothing, so its front uses the headline and the seconds. The values of the front are means over seeds, so
neighbors on the front may differ by chance.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tskd_tune.metrics import Metric, Mode, metric_of
from tskd_tune.plain import Json
from tskd_tune.records.entries.row import Row
from tskd_tune.reports.findings.grouping import alike
from tskd_tune.reports.findings.records import ArmFindings
from tskd_tune.words import count

# The objectives that are no metric of the validation set -> their descriptions.
COSTS: Final = {
    "seconds": "seconds of training steps per seed, without evaluation; mean over seeds",
    "memory": "peak bytes of the GPU's tensors; the most of any seed",
}
FEWEST: Final = 2
MEBIBYTE: Final = 2**20


@dataclass(frozen=True)
class Searched:
    """The objectives of a search. A grid and a single training have none, and their arms are not ranked."""

    name: str
    metric: str
    mode: Mode
    objectives: Mapping[str, Mode] | None


@dataclass(frozen=True)
class FrontPoint:
    """A point that can be compared: its value of every objective, over ``n`` seeds."""

    arm: str
    run: str
    point: Mapping[str, Json]
    n: int
    values: Mapping[str, float]
    on_front: bool


@dataclass(frozen=True)
class LeftOut:
    """An arm that cannot be compared, and the reason: a missing seed or a missing measurement."""

    arm: str
    reason: str


@dataclass(frozen=True)
class Front:
    """A Pareto front.

    Attributes:
        objectives: name -> whether a larger or a smaller value is better.
        metric: the headline, which is one of the objectives.
        asked: whether the sweep names several objectives.
        points: the points that can be compared.
        front: the arms on the front, the best in the first objective first.
        left_out: the arms that cannot be compared.
    """

    objectives: Mapping[str, Mode]
    metric: str
    asked: bool
    points: tuple[FrontPoint, ...]
    front: tuple[str, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def on_front(self) -> list[FrontPoint]:
        """The points on the front, the best in the first objective first."""
        return _sorted([point for point in self.points if point.on_front], self.objectives)


def cost(name: str, train_seconds: Sequence[float], peaks: Sequence[int | None]) -> float | None:
    """Return a point's value of an objective of `COSTS`; None where the value was not measured.

    Args:
        name: the objective.
        train_seconds: the seconds of training steps, per seed.
        peaks: the peak GPU memory in bytes, per seed; None where not measured.
    """
    if name == "seconds":
        return statistics.fmean(train_seconds) if train_seconds else None
    known = [float(peak) for peak in peaks if peak is not None]
    return max(known) if known and len(known) == len(peaks) else None


def fronts(search: Searched | None, arms: Sequence[ArmFindings], headline: str, mode: Mode) -> tuple[Front, ...]:
    """Return the Pareto fronts of a run: one front for a search, one front per task and student for a grid.

    A search uses the objectives that its file names, otherwise its metric and the seconds. A grid uses the headline and
    the seconds. Where fewer than two points can be compared, there is no front.

    Args:
        search: the objectives of the search; None for a grid.
        arms: the arms.
        headline: the metric by which the arms are ranked or compared, as named in rows.
        mode: whether a larger or a smaller headline is better.
    """
    asked = search.objectives if search else None
    objectives: dict[str, Mode] = dict(asked) if asked else {headline: mode, "seconds": "min"}
    groups = [list(arms)] if search else alike(arms, lambda arm: arm.setting)
    found = [_front(group, objectives, headline, asked is not None) for group in groups]
    return tuple(one for one in found if len(one.points) >= FEWEST)


def _front(arms: Sequence[ArmFindings], objectives: Mapping[str, Mode], metric: str, asked: bool) -> Front:
    compared: list[tuple[ArmFindings, dict[str, float]]] = []
    left_out = []
    for arm in arms:
        measured = _values(arm, objectives)
        reason = _missing(arm.rows, measured)
        if reason:
            left_out.append(LeftOut(arm.arm, reason))
        else:
            compared.append((arm, {name: value for name, value in measured.items() if value is not None}))
    points = [
        FrontPoint(
            arm=arm.arm,
            run=arm.runs[0],
            point=arm.point,
            n=sum(row.status == "done" for row in arm.rows),
            values=values,
            on_front=not any(dominates(other, values, objectives) for _, other in compared),
        )
        for arm, values in compared
    ]
    on_front = _sorted([point for point in points if point.on_front], objectives)
    names = tuple(point.arm for point in on_front)
    return Front(objectives, metric, asked, tuple(points), names, tuple(left_out))


def dominates(one: Mapping[str, float], other: Mapping[str, float], objectives: Mapping[str, Mode]) -> bool:
    """Tell whether one point is as good as another in every objective and better in at least one."""
    gains = [_gain(one[name], mode) - _gain(other[name], mode) for name, mode in objectives.items()]
    return min(gains) >= 0 and max(gains) > 0


def _gain(value: float, mode: Mode) -> float:
    return value if mode == "max" else -value


def _values(arm: ArmFindings, objectives: Iterable[str]) -> dict[str, float | None]:
    done = [row for row in arm.rows if row.status == "done"]
    return {name: _value(name, done) for name in objectives}


def _value(name: str, rows: Sequence[Row]) -> float | None:
    if name in COSTS:
        return cost(name, [row.cost.train_seconds for row in rows], [row.cost.peak_memory_bytes for row in rows])
    known = [value for row in rows if (value := row.metrics.get(name)) is not None]
    return statistics.fmean(known) if known and len(known) == len(rows) else None


def _missing(rows: Sequence[Row], values: Mapping[str, float | None]) -> str | None:
    """Return why a point cannot be compared. A mean without the failed seeds would be too good."""
    for status, one, several in (("failed", "failed", "failed"), ("stopped", "was stopped", "were stopped")):
        seeds = sorted(row.seed for row in rows if row.status == status)
        if seeds:
            return f"seed {seeds[0]} {one}" if len(seeds) == 1 else f"seeds {', '.join(map(str, seeds))} {several}"
    absent = [name for name, value in values.items() if value is None]
    return f"{absent[0]} was not measured" if absent else None


def _sorted(points: Sequence[FrontPoint], objectives: Mapping[str, Mode]) -> list[FrontPoint]:
    def rank(point: FrontPoint) -> tuple[list[float], str]:
        return [-_gain(point.values[name], mode) for name, mode in objectives.items()], point.run

    return sorted(points, key=rank)


# Words


def lines(found: Sequence[Front], metrics: Sequence[Metric]) -> list[str]:
    """Return the front of a search in sentences; no sentence where the sweep does not name several objectives.

    Args:
        found: the fronts of a run.
        metrics: the metrics that the rows of the run declare.
    """
    return [line for one in found if one.asked for line in _lines(one, metrics)]


def _lines(one: Front, metrics: Sequence[Metric]) -> list[str]:
    goals = ", ".join(f"{name} ({mode})" for name, mode in one.objectives.items())
    said = [f"{len(one.on_front)} of {len(one.points)} points are on the Pareto front of {goals}."]
    said += [f"{point.arm} ({_run(point)}): {values_text(point, metrics)}" for point in one.on_front]
    said += [f"{other.arm} is left out: {other.reason}." for other in one.left_out]
    meanings = [f"{name}: {COSTS[name]}" for name in one.objectives if name in COSTS]
    said += [f"{'; '.join(meanings)}."] if meanings else []
    return [
        *said,
        "The front compares means, and neighbors on the front may differ by chance: confirm them on fresh seeds.",
    ]


def _run(point: FrontPoint) -> str:
    return f"trial {point.run}, {count(point.n, 'seed')}"


def values_text(point: FrontPoint, metrics: Sequence[Metric]) -> str:
    """Return the values of a point of a front: ``val_loss 0.6050, seconds 5.0``."""
    return ", ".join(f"{name} {_text(name, value, metrics)}" for name, value in point.values.items())


def _text(name: str, value: float, metrics: Sequence[Metric]) -> str:
    if name == "memory":
        return f"{value / MEBIBYTE:.1f} MiB"
    if name == "seconds":
        return f"{value:.1f}"
    return f"{value:.{metric_of(name, metrics).digits}f}"
