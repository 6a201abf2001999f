"""Finds runs that collapsed: outliers of their arm towards the worse, and runs at chance level.

A run has collapsed if it is worse than the median of its arm by more than five robust standard deviations, and by more
than one point where the metric is a percentage. The robust standard deviation is 1.4826 times the median absolute
deviation from the arms' medians, over all arms of one task and student. Of arms with an odd number of runs, the
deviation of the median itself, which is 0, is left out. In 20,000 tables of two arms or more with normal noise, at most
1.3 % of the arms have a false outlier (3 to 20 seeds).

A classification at chance level has collapsed too: its top-k is at most 1.05 times k of the number of classes.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace

from tskd_tune.metrics import PERCENT, Metric
from tskd_tune.records.entries.row import Row
from tskd_tune.reports.findings.comparison import Headline
from tskd_tune.reports.findings.grouping import alike
from tskd_tune.reports.findings.records import ArmFindings, values_by_seed

ROBUST_SDS = 5.0
LEAST_POINTS = 1.0
LEAST_RUNS = 3
AT_CHANCE = 1.05
TO_SD = 1.4826


def with_collapses(arms: Sequence[ArmFindings], headline: Headline) -> list[ArmFindings]:
    """Return the arms with the seeds whose runs collapsed."""
    found = []
    values = {arm.arm: values_by_seed(arm.rows, headline.name) for arm in arms}
    for group in alike(arms, lambda arm: arm.setting):
        sd = robust_sd([list(values[arm.arm].values()) for arm in group])
        found += [(arm.arm, collapsed(values[arm.arm], sd, headline.metric, arm.rows)) for arm in group]
    seeds = dict(found)
    return [replace(arm, collapsed=seeds[arm.arm]) for arm in arms]


def robust_sd(groups: Sequence[Sequence[float]]) -> float | None:
    """Return the robust standard deviation of values around the medians of their groups; None without enough values."""
    deviations: list[float] = []
    for values in groups:
        if len(values) >= LEAST_RUNS:
            center = statistics.median(values)
            own = sorted(abs(value - center) for value in values)
            deviations += own[1:] if len(own) % 2 else own
    return TO_SD * statistics.median(deviations) if deviations else None


def collapsed(values: Mapping[int, float], sd: float | None, metric: Metric, rows: Sequence[Row]) -> tuple[int, ...]:
    """Return the seeds of an arm whose runs collapsed."""
    chance = _chance(metric, rows)
    worse = -1 if metric.mode == "max" else 1
    center = statistics.median(values.values()) if len(values) >= LEAST_RUNS and sd else None
    room = max(ROBUST_SDS * (sd or 0.0), LEAST_POINTS if metric.unit == PERCENT else 0.0)
    return tuple(
        seed
        for seed, value in values.items()
        if (center is not None and worse * (value - center) > room) or (chance is not None and value <= chance)
    )


def _chance(metric: Metric, rows: Sequence[Row]) -> float | None:
    """Return the largest top-k that counts as chance level; None for any other metric, and where all classes count."""
    found, data = re.fullmatch(r"top(\d+)", metric.name), rows[0].data if rows else None
    if found is None or data is None or int(found[1]) >= data.outputs:
        return None
    return AT_CHANCE * 100 * int(found[1]) / data.outputs
