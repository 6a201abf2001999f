"""Words for counts, differences, p values and numbers of seeds, for the sentences of all reports."""

from __future__ import annotations

from collections.abc import Sequence

from tskd_tune.metrics import PERCENT, Metric
from tskd_tune.reports.judge import power
from tskd_tune.words import count

POINTS = Metric("value", "value", PERCENT, "max")
"""A metric in percent, of which more is better: what the values of an arm are, unless another metric is named."""


def runs_of(numbers: Sequence[int]) -> str:
    """Return ascending whole numbers in short: ``1 to 5, 8``."""
    groups: list[list[int]] = []
    for number in numbers:
        if groups and number == groups[-1][-1] + 1:
            groups[-1].append(number)
        else:
            groups.append([number])
    parts = [[f"{group[0]} to {group[-1]}"] if len(group) > 2 else list(map(str, group)) for group in groups]
    return ", ".join(part for some in parts for part in some)


def unit_of_differences(metric: Metric) -> str:
    """Return the unit of a difference between two values: ``points`` for percentages; empty without a unit."""
    return "points" if metric.unit == PERCENT else metric.unit


def with_unit(text: str, metric: Metric) -> str:
    """Return the text of a difference with its unit: ``0.3 points``; a metric without a unit adds nothing."""
    return f"{text} {unit_of_differences(metric)}".rstrip()


def signed(value: float, metric: Metric = POINTS) -> str:
    """Return a difference with its sign and the digits of the metric: ``+0.42``."""
    text = f"{value:+.{metric.digits}f}"
    return f"+{text[1:]}" if float(text) == 0 else text


def difference_text(value: float, metric: Metric = POINTS) -> str:
    """Return a difference with its sign and unit: ``+0.42 points``."""
    return with_unit(signed(value, metric), metric)


def p_text(p: float) -> str:
    """Return ``p = 0.0123``, or ``p < 0.0001``."""
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.3g}"


def seeds_text(n: int | None) -> str:
    """Return a number of seeds in words: ``9 seeds`` or ``1 seed``; for None, that too many seeds would be needed."""
    return f"more than {power.MOST_SEEDS:,} seeds" if n is None else count(n, "seed")


def range_text(low: int | None, high: int | None) -> str:
    """Return a range of numbers of seeds in words: ``9 to 18 seeds``; None stands for too many seeds."""
    if low == high or low is None:
        return seeds_text(high)
    return f"{low:,} to {seeds_text(high)}"


def listed(numbers: Sequence[int]) -> str:
    """Return numbers in words: ``5, 10 and 18``."""
    return " and ".join(filter(None, [", ".join(map(str, numbers[:-1])), str(numbers[-1])]))
