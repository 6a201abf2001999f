"""The basis of all statistics: the values of an arm by seed, and intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from tskd_tune.errors import InputError

LEVEL = 0.95
# The square of a larger number overflows. Measured values are much smaller.
LARGEST = 1e100

Values: TypeAlias = Mapping[int, float]
"""Seed -> value of one arm, in the unit of the metric."""


@dataclass(frozen=True)
class Interval:
    """A confidence interval: its ends, its level and its method.

    ``t`` is Student's over seeds, ``welch`` the unpaired form, ``bca`` the bias-corrected, accelerated bootstrap,
    ``sequential`` holds at all numbers of seeds at which a comparison is tested, and ``teachers`` is over several
    teachers and seeds. ``excludes`` is 0 where 0 is an end that does not belong to the interval: Holm's correction
    excludes 0, but no value beyond 0.
    """

    low: float
    high: float
    level: float
    method: Literal["t", "welch", "bca", "sequential", "teachers"]
    excludes: float | None = None

    def without_zero(self, difference: float) -> Interval:
        """Return the interval on the side of a difference that is shown not to be 0, cut at 0 where 0 is inside."""
        if not self.low <= 0 <= self.high:
            return self
        return replace(self, low=0.0, excludes=0.0) if difference > 0 else replace(self, high=0.0, excludes=0.0)


def checked(values: Values, name: str) -> dict[int, float]:
    """Return the values by ascending seed.

    Raises:
        InputError: a value is not a finite number.
    """
    for seed, value in values.items():
        if not abs(value) < LARGEST:
            raise InputError(
                f"arm '{name}': seed {seed} has the value {value}, which is no finite number; "
                "leave the seed out and show it as failed"
            )
    return {seed: float(values[seed]) for seed in sorted(values)}


def t_interval(center: float, se: float, df: float, level: float, method: Literal["t", "welch"]) -> Interval:
    """Return Student's interval around ``center``, given the standard error and its degrees of freedom."""
    from scipy import special  # takes 0.3 s to import; of the quick commands only `status` and `runs` need it

    half = float(special.stdtrit(df, (1 + level) / 2)) * se
    return Interval(center - half, center + half, level, method)


def tolerance(numbers: Sequence[float]) -> float:
    """Return the largest difference of two of these numbers that rounding can cause; steps of accuracy are larger."""
    return max(1e-9 * max(map(abs, numbers), default=0.0), 1e-12)


def is_flat(numbers: Sequence[float]) -> bool:
    """Tell whether all numbers are equal, apart from rounding."""
    return max(numbers) - min(numbers) <= tolerance(numbers)
