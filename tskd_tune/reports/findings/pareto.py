"""The points of a sweep that no other point beats in every objective: the Pareto front.

A search's objectives are metrics of the validation part, ``seconds`` and ``memory``; never one of the test part. A
grid, which chooses nothing, is shown by its headline and its seconds. The front is one of means over seeds: neighbors
on it may differ by chance.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tskd_tune.records.row import Row
from tskd_tune.reports.findings.grouping import alike

# What an objective may be beside a metric of the validation part, and how it is said.
COSTS: Final = {
    "seconds": "seconds of training steps of a seed, without evaluation; mean over seeds",
    "memory": "peak bytes of the GPU's tensors; the most of any seed",
}
FEWEST: Final = 2
MEBIBYTE: Final = 2**20


def cost(name: str, costs: Sequence[Mapping[str, Any]]) -> float | None:
    """Return an objective of `COSTS` of a point, given the cost of each of its seeds; None where it was not measured.

    Each of ``costs`` holds ``train_seconds`` and ``peak_memory_bytes``, as `records.row.Cost` has them.
    """
    if name == "seconds":
        return statistics.fmean(each["train_seconds"] for each in costs) if costs else None
    peaks = [each.get("peak_memory_bytes") for each in costs]
    known = [float(peak) for peak in peaks if peak is not None]
    return max(known) if known and len(known) == len(peaks) else None


def fronts(
    search: Mapping[str, Any] | None, rows: Sequence[Row], arms: Sequence[Mapping[str, Any]], headline: str
) -> list[dict[str, Any]]:
    """Return the Pareto fronts of a run as plain data: one of a search, one for each task and student of a grid.

    A search has the objectives that it names, else its metric beside the seconds; a grid the headline beside them.
    Where fewer than two points can be compared there is no front.

    Args:
        search: the summary's ``search``; None of a grid.
        rows: the rows of the run.
        arms: the summary's arms: ``arm``, ``runs``, ``point`` and ``setting`` of each.
        headline: the metric that the arms are ranked or compared by.

    Returns:
        Of each front ``objectives`` (name -> max or min), ``metric`` (the headline, which is one of them), ``asked``
        (whether the sweep names them), ``points`` (``arm``, ``run``, ``point``, ``n`` seeds, ``values`` by objective,
        ``on_front``), ``front`` (the arms on it, the best in the first objective first) and ``left_out`` (``arm`` and
        ``reason`` of points that lack a seed or a measurement).
    """
    asked = search["objectives"] if search else None
    objectives = dict(asked or {headline: search["mode"] if search else "max", "seconds": "min"})
    facts = {"objectives": objectives, "metric": headline, "asked": asked is not None}
    groups = [list(arms)] if search else alike(arms, lambda arm: arm["setting"])
    found = [_front(group, rows, objectives) for group in groups]
    return [{**facts, **one} for one in found if len(one["points"]) >= FEWEST]


def _front(
    arms: Sequence[Mapping[str, Any]], rows: Sequence[Row], objectives: Mapping[str, str]
) -> dict[str, list[Any]]:
    points, left_out = [], []
    for arm in arms:
        mine = [row for row in rows if row.run in arm["runs"]]
        point = _point(arm, mine, objectives)
        missing = _missing(mine, point["values"])
        if missing:
            left_out.append({"arm": arm["arm"], "reason": missing})
        else:
            points.append(point)
    for point in points:
        point["on_front"] = not any(dominates(other["values"], point["values"], objectives) for other in points)
    on_front = _sorted([point for point in points if point["on_front"]], objectives)
    return {"points": points, "front": [point["arm"] for point in on_front], "left_out": left_out}


def dominates(one: Mapping[str, float], other: Mapping[str, float], objectives: Mapping[str, str]) -> bool:
    """Tell whether one point is as good as another in every objective and better in at least one."""
    gains = [_gain(one[name], mode) - _gain(other[name], mode) for name, mode in objectives.items()]
    return min(gains) >= 0 and max(gains) > 0


def _gain(value: float, mode: str) -> float:
    return value if mode == "max" else -value


def _point(arm: Mapping[str, Any], rows: Sequence[Row], objectives: Mapping[str, str]) -> dict[str, Any]:
    done = [row for row in rows if row.status == "done"]
    return {
        "arm": arm["arm"],
        "run": arm["runs"][0],
        "point": arm["point"],
        "n": len(done),
        "values": {name: _value(name, done) for name in objectives},
    }


def _value(name: str, rows: Sequence[Row]) -> float | None:
    if name in COSTS:
        return cost(name, [row.cost.plain() for row in rows])
    values = [row.metrics.get(name) for row in rows]
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known and len(known) == len(values) else None


def _missing(rows: Sequence[Row], values: Mapping[str, float | None]) -> str | None:
    """Return why a point cannot be compared: a mean over the seeds that survived would flatter it."""
    for status, one, several in (("failed", "failed", "failed"), ("stopped", "was stopped", "were stopped")):
        seeds = sorted(row.seed for row in rows if row.status == status)
        if seeds:
            return f"seed {seeds[0]} {one}" if len(seeds) == 1 else f"seeds {', '.join(map(str, seeds))} {several}"
    absent = [name for name, value in values.items() if value is None]
    return f"{absent[0]} was not measured" if absent else None


def _sorted(points: Sequence[dict[str, Any]], objectives: Mapping[str, str]) -> list[dict[str, Any]]:
    def rank(point: Mapping[str, Any]) -> tuple[list[float], str]:
        return [-_gain(point["values"][name], mode) for name, mode in objectives.items()], point["run"]

    return sorted(points, key=rank)


# Words


def lines(found: Mapping[str, Any]) -> list[str]:
    """Return the front of a search in sentences; none where the sweep did not name several objectives."""
    return [line for one in found["pareto"] if one["asked"] for line in _lines(one)]


def _lines(one: Mapping[str, Any]) -> list[str]:
    objectives, points = one["objectives"], one["points"]
    on_front = _sorted([point for point in points if point["on_front"]], objectives)
    goals = ", ".join(f"{name} ({mode})" for name, mode in objectives.items())
    said = [f"{len(on_front)} of {len(points)} points are beaten by no other in every objective: {goals}."]
    said += [f"{point['arm']} ({_run(point)}): {values_text(point)}" for point in on_front]
    said += [f"{other['arm']} is left out: {other['reason']}." for other in one["left_out"]]
    meanings = [f"{name}: {COSTS[name]}" for name in objectives if name in COSTS]
    said += [f"{'; '.join(meanings)}."] if meanings else []
    return [*said, "The front is one of means: neighbors on it may differ by chance, so confirm them on fresh seeds."]


def _run(point: Mapping[str, Any]) -> str:
    return f"trial {point['run']}, {point['n']} seed{'s' if point['n'] > 1 else ''}"


def values_text(point: Mapping[str, Any]) -> str:
    """Return the values of a point of a front: ``val_top1 60.50, seconds 5.0``."""
    return ", ".join(f"{name} {_text(name, value)}" for name, value in point["values"].items())


def _text(name: str, value: float) -> str:
    if name == "memory":
        return f"{value / MEBIBYTE:.1f} MiB"
    if name == "seconds":
        return f"{value:.1f}"
    return f"{value:.2f}" if "top" in name else f"{value:.4g}"
