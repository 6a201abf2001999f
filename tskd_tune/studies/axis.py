"""A numeric axis of a still figure: where a value lies, in pixels, and which values are marked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

# The axis of one value reaches this far to both sides.
ALONE = 0.5
# How many marks an axis has, about.
MARKS = 5


@dataclass(frozen=True)
class Axis:
    """A range of values along a range of pixels.

    >>> axis = Axis.over([0.0, 10.0], 100.0, 200.0)
    >>> axis.place(5.0), axis.marks()
    (150.0, [0.0, 2.0, 4.0, 6.0, 8.0, 10.0])

    Attributes:
        low: the least value; of a logarithmic axis, its decimal logarithm.
        high: the largest value; of a logarithmic axis, its decimal logarithm.
        start: the place of ``low``, in pixels.
        end: the place of ``high``, in pixels.
        log: whether the axis is logarithmic.
        whole: whether only whole numbers are marked, such as epochs.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False
    whole: bool = False

    @classmethod
    def over(cls, values: Sequence[float], start: float, end: float, *, log: bool = False, whole: bool = False) -> Self:
        """Make the axis that shows all values; on a logarithmic one, those above 0."""
        shown = [math.log10(value) for value in values if value > 0] if log else list(values)
        low, high = (min(shown), max(shown)) if shown else (0.0, 0.0)
        if low == high:
            low, high = low - ALONE, high + ALONE
        return cls(low, high, start, end, log, whole)

    def place(self, value: float) -> float | None:
        """Return the place of a value in pixels; None if a logarithmic axis has none for it."""
        if self.log and value <= 0:
            return None
        along = (math.log10(value) if self.log else value) - self.low
        return self.start + along / (self.high - self.low) * (self.end - self.start)

    def marks(self) -> list[float]:
        """Return round values within the axis, in order."""
        if self.log and self.high - self.low >= 1:
            return [10.0**power for power in range(math.ceil(self.low), math.floor(self.high) + 1)]
        low, high = (10.0**self.low, 10.0**self.high) if self.log else (self.low, self.high)
        step = max(_step((high - low) / MARKS), 1.0 if self.whole else 0.0)
        digits = max(0, 1 - math.floor(math.log10(step)))
        return [round(number * step, digits) for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _step(rough: float) -> float:
    """Return the next of 1, 2, 5, 10, 20... and their tenths that is not below a number above 0."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
