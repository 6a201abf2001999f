"""Forecasts of many windows as jobs, and what they show in each cell."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import geometric_mean

import numpy as np

from tskd_tune.studies.temporal.forecasters import PERSISTENCE, SIMPLE, Forecast, Order, forecasts
from tskd_tune.studies.temporal.scores import Ratio, best_elsewhere, mase, ratio_over_seeds, rmse
from tskd_tune.studies.temporal.windows import Cell, Window

BEST = "best simple"
"""The rival that stands for the best of the simple ones, chosen for each seed on the other seeds."""


@dataclass(frozen=True)
class Job:
    """The windows of one training and signal, and the models that forecast them."""

    windows: tuple[tuple[float, ...], ...]
    steps: int
    orders: tuple[Order, ...]
    auto: bool


def forecast_all(job: Job) -> list[list[Forecast]]:
    """Forecast each window of a job by every model; a task of Ray."""
    return [forecasts(np.array(window), job.steps, job.orders, auto=job.auto) for window in job.windows]


@dataclass(frozen=True)
class Judged:
    """One window with its forecasts."""

    window: Window
    forecasts: Mapping[str, Forecast]

    def error(self, model: str, horizon: int) -> float:
        """Return the RMSE of a model over the first steps."""
        return rmse(self.forecasts[model].values[:horizon], self.window.future[:horizon])

    def scaled_error(self, model: str, horizon: int) -> float:
        """Return the MASE of a model over the first steps."""
        return mase(self.forecasts[model].values[:horizon], self.window.future[:horizon], self.window.past)


@dataclass(frozen=True)
class Comparison:
    """A model against a rival in a cell, over one horizon.

    Attributes:
        cell: what is forecast.
        horizon: the number of steps.
        model: the model.
        rival: what it is compared with.
        series: the number of series of all seeds.
        ratio: the ratio of their errors over seeds.
        mase: the geometric mean of the model's MASE.
        drops: whether the learning rate changes within the horizon.
        holm: the p value of the ratio after Holm's correction over all cells and horizons with this model and rival,
            without the nulls.
    """

    cell: Cell
    horizon: int
    model: str
    rival: str
    series: int
    ratio: Ratio
    mase: float
    drops: bool
    holm: float | None = None


def jobs_of(
    windows: Sequence[Window], steps: int, orders: Sequence[Order], *, auto: bool
) -> tuple[list[Job], list[list[Window]]]:
    """Group windows by cell and seed into jobs; return also the windows of each job."""
    groups: dict[tuple[Cell, int], list[Window]] = defaultdict(list)
    for window in windows:
        groups[window.cell, window.seed].append(window)
    jobs = [Job(tuple(one.past for one in group), steps, tuple(orders), auto) for group in groups.values()]
    return jobs, list(groups.values())


def judged(groups: Sequence[Sequence[Window]], results: Sequence[Sequence[Sequence[Forecast]]]) -> list[Judged]:
    """Join windows with their forecasts."""
    return [
        Judged(window, {forecast.model: forecast for forecast in found})
        for group, result in zip(groups, results, strict=True)
        for window, found in zip(group, result, strict=True)
    ]


def comparisons(
    given: Sequence[Judged], horizons: Sequence[int], models: Sequence[str], nulls: Sequence[str]
) -> list[Comparison]:
    """Compare each model with each rival, and with the best simple one, in every cell and over every horizon.

    Args:
        given: all windows with their forecasts.
        horizons: the numbers of steps.
        models: the models that are compared.
        nulls: the arms that are controls, which are not part of Holm's families.
    """
    cells: dict[Cell, list[Judged]] = defaultdict(list)
    for one in given:
        cells[one.window.cell].append(one)
    found = [
        comparison
        for cell, members in sorted(cells.items(), key=lambda item: item[0])
        for horizon in horizons
        for model in models
        for comparison in _compared(cell, members, horizon, model)
    ]
    return _corrected(found, nulls)


def _compared(cell: Cell, members: Sequence[Judged], horizon: int, model: str) -> Iterator[Comparison]:
    rivals = [name for name in members[0].forecasts if name != model and not name.startswith("arima")]
    errors = {name: _by_seed(members, name, horizon) for name in (model, *rivals)}
    best = best_elsewhere({rival: errors[rival] for rival in SIMPLE})
    errors[BEST] = {seed: errors[rival][seed] for seed, rival in best.items()}
    scaled = geometric_mean([one.scaled_error(model, horizon) for one in members])
    drops = any(one.window.drops for one in members)
    for rival in (BEST, *rivals):
        ratio = ratio_over_seeds({seed: error / errors[rival][seed] for seed, error in errors[model].items()})
        yield Comparison(cell, horizon, model, rival, len(members), ratio, scaled, drops)


def _by_seed(members: Sequence[Judged], model: str, horizon: int) -> dict[int, float]:
    """Return seed -> the geometric mean of the errors of its series."""
    seeds: dict[int, list[float]] = defaultdict(list)
    for one in members:
        seeds[one.window.seed].append(one.error(model, horizon))
    return {seed: geometric_mean(values) for seed, values in seeds.items()}


def _corrected(found: Sequence[Comparison], nulls: Sequence[str]) -> list[Comparison]:
    from tskd_tune.reports.judge.verdicts import holm_of_known  # loads statsmodels

    families: dict[tuple[str, str], list[Comparison]] = defaultdict(list)
    for one in found:
        if one.cell.arm not in nulls:
            families[one.model, one.rival].append(one)
    adjusted = {
        id(one): p
        for family in families.values()
        for one, p in zip(family, holm_of_known([member.ratio.p for member in family]), strict=True)
    }
    return [
        Comparison(
            one.cell,
            one.horizon,
            one.model,
            one.rival,
            one.series,
            one.ratio,
            one.mase,
            one.drops,
            adjusted.get(id(one)),
        )
        for one in found
    ]


def failures(given: Sequence[Judged]) -> Counter[tuple[str, str, str, str]]:
    """Count failed fits, whose forecast is the last value, and fits that did not converge.

    Returns:
        (arm, signal, model, what happened) -> the number of fits; also the models without any are there, with 0.
    """
    found: Counter[tuple[str, str, str, str]] = Counter()
    for one in given:
        for model, forecast in one.forecasts.items():
            if model in (PERSISTENCE, "drift", "slope"):
                continue
            cell = one.window.cell
            found[cell.arm, cell.signal, model, "fit failed; the last value stands in"] += forecast.failed
            found[cell.arm, cell.signal, model, "fit did not converge; its forecast is used"] += forecast.unconverged
    return found
