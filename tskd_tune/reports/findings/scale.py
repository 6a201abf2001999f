"""Cuts intervals of percentages at 0 and 100 %, which Student's t ignores, and marks the intervals that were cut."""

from __future__ import annotations

from tskd_tune.metrics import Metric
from tskd_tune.reports.judge.values import Interval

# The mark of an interval that was cut; `NOTE` explains the mark.
MARK = "*"
NOTE = (
    f"{MARK} The interval of Student's t goes beyond 0 or 100 %, which is impossible; the interval is cut there. The"
    " seeds are too few, or too near the end of the scale, for an interval of this kind."
)


def is_beyond(metric: Metric, interval: Interval | None) -> bool:
    """Tell whether an interval of a metric's mean goes beyond the scale of the metric."""
    if interval is None or metric.bounds is None:
        return False
    lowest, highest = metric.bounds
    return interval.low < lowest or interval.high > highest


def cut(low: float, high: float, bounds: tuple[float, float] = (0.0, 100.0)) -> tuple[float, float]:
    """Return both ends of an interval, cut at the bounds; the default bounds are those of a percentage."""
    lowest, highest = bounds
    return min(max(low, lowest), highest), max(min(high, highest), lowest)
