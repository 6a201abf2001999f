"""The objectives of a search: one metric of the validation set, or several objectives; never the test set."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, Field, model_validator

from tskd_tune.errors import shown
from tskd_tune.metrics import Metric, Mode, measured, metric_of
from tskd_tune.plain import Document
from tskd_tune.registry import Component
from tskd_tune.reports.findings.pareto import COSTS, cost

Goals: TypeAlias = Mapping[str, Mode]
"""Objective -> ``max`` or ``min``, in the order of the YAML; a search by one metric has one objective."""


def _of_validation(metric: str) -> str:
    if not metric.startswith("val_"):
        raise ValueError(
            f"must be a metric of the validation set, such as val_loss, got {shown(metric)}; a search never uses the"
            " test set"
        )
    return metric


ValidationMetric = Annotated[str, AfterValidator(_of_validation), Field(json_schema_extra={"pattern": "^val_"})]


class Search(Component):
    """A searcher and its objectives: the mean over seeds of a validation metric, or several objectives."""

    metric: ValidationMetric | None = Field(
        None,
        description="a metric of the validation set, such as val_loss; null: the task's headline metric; a search never"
        " uses the test set",
    )
    mode: Mode | None = Field(
        None,
        description="max or min: whether larger or smaller values of the metric are better; null: as the task declares",
    )
    objectives: dict[str, Mode] | None = Field(
        None,
        description="several objectives in place of one metric, such as {val_loss: min, seconds: min}: metrics of the"
        " validation set, seconds (training time) and memory (peak GPU memory in bytes)",
    )

    @model_validator(mode="before")
    @classmethod
    def _lead(cls, value: object) -> object:
        """Set ``metric`` and ``mode`` to the first validation metric among the objectives and its mode."""
        if not isinstance(value, dict) or not isinstance(objectives := value.get("objectives"), dict):
            return value
        _check(objectives)
        metric = next(name for name in objectives if name not in COSTS)
        lead = {"metric": metric, "mode": objectives[metric]}
        for key, led in lead.items():
            if value.get(key, led) != led:
                raise ValueError(
                    f"objectives: give {key} or objectives, not both; the first metric among them is {metric}, and its"
                    f" mode {lead['mode']}"
                )
        return {**value, **lead}

    @property
    def is_whole(self) -> bool:
        """Whether metric and mode are given; otherwise the metrics of the task are needed."""
        return self.objectives is not None or (self.metric is not None and self.mode is not None)

    def goals(self, metrics: Sequence[Metric] = ()) -> Goals:
        """Return every objective with its mode; without ``objectives``, return only the metric with its mode.

        Args:
            metrics: the metrics of the task, the headline metric first; used only if metric or mode is left out.
        """
        if self.objectives is not None:
            return dict(self.objectives)
        name = measured("validation", metrics[0]) if self.metric is None else self.metric
        return {name: metric_of(name, metrics).mode if self.mode is None else self.mode}


def lead(goals: Goals) -> tuple[str, Mode]:
    """Return the first metric among the goals, with its mode; every result of a trial must contain this metric."""
    metric = next(name for name in goals if name not in COSTS)
    return metric, goals[metric]


def value_of(name: str, result: Document) -> float | None:
    """Return the value of an objective in a trial's result; None if the value is absent or not finite."""
    value: object = result.get(name)
    if name in COSTS:
        costs = [row["cost"] for row in result.get("rows", [])]
        value = cost(name, [one["train_seconds"] for one in costs], [one.get("peak_memory_bytes") for one in costs])
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def means(records: Sequence[Mapping[str, object]]) -> dict[str, float]:
    """Return the mean over the seeds of every number that was measured for each seed."""
    measured = {name: [value for of in records if isinstance(value := of.get(name), float)] for name in records[0]}
    return {name: fmean(values) for name, values in measured.items() if len(values) == len(records)}


def worst(mode: str) -> float:
    """Return what a diverged trial reports in place of its metric: a number worse than any measured one."""
    return -1e9 if mode == "max" else 1e9


def _check(objectives: Mapping[str, object]) -> None:
    for name in objectives:
        if name not in COSTS and not str(name).startswith("val_"):
            raise ValueError(
                f"objectives: '{name}' is neither a metric of the validation set (val_...) nor seconds nor memory"
            )
    if len(objectives) < 2:
        raise ValueError(f"objectives: needs two or more, got {len(objectives)}; for one give metric and mode")
    if all(name in COSTS for name in objectives):
        raise ValueError(f"objectives: {' and '.join(objectives)} are costs; add a metric, such as val_loss: min")
