"""An accuracy lies between 0 and 100 %, which Student's t ignores: its intervals are cut there, and that is said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LOWEST, HIGHEST = 0.0, 100.0
# Beside an interval that was cut; `NOTE` explains it.
MARK = "*"
NOTE = (
    f"{MARK} Student's t gives an interval that goes beyond 0 or 100 %, where no accuracy is; the interval is cut."
    " The seeds are too few, or too near the end of the scale, for an interval of this kind."
)


def is_percentage(metric: str) -> bool:
    """Tell whether a metric is a share of the images in percent, such as ``test_top1``; a loss is none."""
    return "top" in metric


def is_beyond(metric: str, interval: Mapping[str, Any] | None) -> bool:
    """Tell whether an interval of a metric's mean leaves the metric's scale."""
    if interval is None or not is_percentage(metric):
        return False
    return bool(interval["low"] < LOWEST or interval["high"] > HIGHEST)


def cut(low: float, high: float) -> tuple[float, float]:
    """Return both ends, none of them beyond the scale of a percentage."""
    return min(max(low, LOWEST), HIGHEST), max(min(high, HIGHEST), LOWEST)
