"""Gathers the rows of each configuration, and summarizes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from tskd_tune.metrics import Part, measured
from tskd_tune.records.entries.row import Row
from tskd_tune.reports.findings.comparison import Headline
from tskd_tune.reports.findings.records import NOTHING, ArmFindings, Setting, Statistic, StoppedAt, values_by_seed
from tskd_tune.reports.findings.scale import is_beyond
from tskd_tune.reports.findings.several_teachers import has_several, over_seeds, without_teacher
from tskd_tune.reports.judge import statistics as seeds
from tskd_tune.reports.judge.robust import interquartile_mean


def gathered(rows: Sequence[Row], searched: bool) -> list[list[Row]]:
    """Gather the rows of each configuration: a search has one configuration per trial, a grid has a trial per seed.

    The runs of an arm under several teachers are one configuration.
    """
    groups: dict[str, list[Row]] = {}
    for row in rows:
        point = row.run if searched else json.dumps([row.arm, without_teacher(row.point)], sort_keys=True)
        groups.setdefault(point, []).append(row)
    return list(groups.values())


def arm_findings(rows: Sequence[Row], headline: Headline, declared: int) -> ArmFindings:
    """Summarize the rows of one configuration.

    Args:
        rows: one row per seed, under several teachers one per teacher and seed; at least one row.
        headline: the metric by which the arms are compared.
        declared: the number of seeds to train; 0 where all seeds have ended.
    """
    first, done = rows[0], [row for row in rows if row.status == "done"]
    trained = tuple(dict.fromkeys(row.seed for row in rows)) if has_several(rows) else tuple(row.seed for row in rows)
    of, stopped = max(declared, len(trained)), [row for row in rows if row.status == "stopped"]
    metrics = {name: Statistic.over(over_seeds(rows, partial(_value, name=name)), of) for name in _measured(done)}
    found = seeds.arm(values_by_seed(rows, headline.name), name=first.arm)
    return ArmFindings(
        arm=first.arm,
        run=first.run,
        runs=tuple(dict.fromkeys(row.run for row in rows)),
        point=without_teacher(first.point),
        seeds=trained,
        headline=metrics.get(headline.name, replace(NOTHING, of=of)),
        metrics=metrics,
        best_validation=Statistic.over(over_seeds(rows, partial(_best, part="validation")), of),
        validation_selected=Statistic.over(over_seeds(rows, _selected), of),
        best_test=Statistic.over(over_seeds(rows, partial(_best, part="test")), of),
        reviews=sum(epoch < max(row.epochs for row in rows) for epoch in first.plan.review),
        plan=first.plan,
        epochs=tuple(row.epochs for row in rows),
        epochs_planned=first.epochs_planned,
        lambda_=Statistic.over(row.lambda_ for row in rows),
        cost_seconds=Statistic.over(row.cost.seconds for row in done).mean,
        cost_ratio=None,
        peak_memory_bytes=max((row.cost.peak_memory_bytes or 0 for row in rows), default=0) or None,
        reviewed=first.experiment.get("review") is not None,
        setting=Setting(first.experiment.get("task"), first.experiment.get("student")),
        preset=first.preset,
        deviations=tuple(first.deviations),
        failed=sum(row.status == "failed" for row in rows),
        broke=sum(row.broke for row in rows),
        stopped=len(stopped),
        stopped_at=_stopped_at(stopped, headline.name),
        statistics=found,
        beyond=is_beyond(headline.metric, found.interval),
        rows=tuple(rows),
        interquartile_mean=interquartile_mean([*values_by_seed(rows, headline.name).values()]),
    )


def _value(row: Row, name: str) -> float | None:
    return row.metrics.get(name)


def _best(row: Row, part: Part) -> float | None:
    best = row.best_by(part)
    return best.value if best else None


def _selected(row: Row) -> float | None:
    """Return the headline on the test set, at the best validation epoch."""
    best = row.best_by("validation")
    return best.also.get(measured("test", best.metric)) if best else None


def _stopped_at(rows: Sequence[Row], headline: str) -> StoppedAt | None:
    if not rows:
        return None
    mean = Statistic.over(row.metrics.get(headline) for row in rows).mean
    return StoppedAt(max(row.epochs for row in rows), mean)


def _measured(rows: Sequence[Row]) -> list[str]:
    """Return the names of all metrics. The task's headline on the test set and on the validation set come first."""
    names = {name for row in rows for name in row.metrics}
    headlines = [row.headline for row in rows if row.headline]
    first = [measured(part, headlines[0]) for part in ("test", "validation")] if headlines else []
    return [name for name in first if name in names] + sorted(names.difference(first))


def labels_apart(arms: Sequence[ArmFindings]) -> list[ArmFindings]:
    """Return the arms; where several configurations share a label, the label gets the trial's id."""
    labels = [arm.arm for arm in arms]
    return [_named(arm, f"{arm.arm} ({arm.run})") if labels.count(arm.arm) > 1 else arm for arm in arms]


def _named(arm: ArmFindings, label: str) -> ArmFindings:
    return replace(arm, arm=label, statistics=replace(arm.statistics, name=label))
