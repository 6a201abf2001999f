"""The metrics of a run, with as many decimals as their values need."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from tskd_tune.metrics import Measured, Metric, undeclared
from tskd_tune.records.entries.row import Row, declared
from tskd_tune.reports.findings.grouping import distinct

SIGNIFICANT = 3
MOST_DIGITS = 12


def measures_of(rows: Sequence[Row]) -> tuple[Metric, ...]:
    """Return the metrics that the rows declare; otherwise guess them from the names of the metrics.

    A metric whose values would all be shown as 0.00 or 0.01 gets more decimals.
    """
    read = [one for row in rows for name in row.metrics if (one := Measured.read(name)) is not None]
    found = declared(rows) or distinct(undeclared(one.metric) for one in read if not one.teacher)
    return tuple(_shown(metric, rows) for metric in found)


def _shown(metric: Metric, rows: Sequence[Row]) -> Metric:
    """Return a metric with the decimals that show three digits of its largest value, if this value is small."""
    values = [
        abs(value)
        for row in rows
        for name, value in row.metrics.items()
        if value and (read := Measured.read(name)) is not None and read.metric == metric.name
    ]
    largest = max(values, default=0.0)
    if not 0 < largest < 10.0 ** (1 - metric.digits):
        return metric
    return replace(metric, digits=min(MOST_DIGITS, SIGNIFICANT - 1 - math.floor(math.log10(largest))))
