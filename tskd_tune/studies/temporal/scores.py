"""How good forecasts are: errors with a floor, and their ratios over seeds with intervals.

The seed is the unit: series of one network are not independent, so their ratios are first averaged within a seed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import geometric_mean

import numpy as np

FLOOR = 1e-3
"""The smallest error that counts, in standard deviations of the window; smaller errors would rule the ratios."""

LEVEL = 0.95


def rmse(forecast: Sequence[float], truth: Sequence[float]) -> float:
    """Return the root of the mean squared error over the steps, at least `FLOOR`."""
    errors = np.subtract(forecast, truth)
    return max(FLOOR, float(np.sqrt(np.mean(errors**2))))


def mase(forecast: Sequence[float], truth: Sequence[float], window: Sequence[float]) -> float:
    """Return the mean absolute error, in units of the mean absolute step of the window (Hyndman & Koehler 2006)."""
    scale = float(np.mean(np.abs(np.diff(window))))
    return max(FLOOR, float(np.mean(np.abs(np.subtract(forecast, truth))))) / scale


@dataclass(frozen=True)
class Ratio:
    """The error of a model divided by that of a rival: the geometric mean over seeds, below 1 if the model is better.

    Attributes:
        seeds: the number of seeds, n.
        ratio: the geometric mean of the seeds' ratios.
        low: the lower end of its 95 % t interval on the logarithms; None with one seed, or if all seeds agree.
        high: the upper end.
        p: two-sided, of a t test of the logarithms against 0; None as the interval.
    """

    seeds: int
    ratio: float
    low: float | None
    high: float | None
    p: float | None

    @property
    def skill(self) -> float:
        """1 minus the ratio: above 0 if the model is better."""
        return 1 - self.ratio

    @property
    def beats(self) -> bool:
        """Whether the whole interval is below 1."""
        return self.high is not None and self.high < 1


def ratio_over_seeds(by_seed: Mapping[int, float]) -> Ratio:
    """Summarize the ratio of each seed, of which there must be at least one."""
    from scipy import special

    logs = [math.log(ratio) for ratio in by_seed.values()]
    n = len(logs)
    mean = math.fsum(logs) / n
    if n < 2 or (deviation := float(np.std(logs, ddof=1))) < 1e-12:
        return Ratio(n, math.exp(mean), None, None, None)
    error = deviation / math.sqrt(n)
    half = float(special.stdtrit(n - 1, (1 + LEVEL) / 2)) * error
    p = 2 * float(special.stdtr(n - 1, -abs(mean / error)))
    return Ratio(n, math.exp(mean), math.exp(mean - half), math.exp(mean + half), p)


def best_elsewhere(errors: Mapping[str, Mapping[int, float]]) -> dict[int, str]:
    """Return for each seed the rival with the smallest error over all other seeds.

    So the rival is not chosen by the errors that it is then compared on. With one seed, it is chosen on that seed.

    Args:
        errors: rival -> seed -> the geometric mean of its errors.
    """
    seeds = next(iter(errors.values())).keys()

    def elsewhere(rival: str, seed: int) -> float:
        others = [error for other, error in errors[rival].items() if other != seed or len(seeds) == 1]
        return geometric_mean(others)

    return {seed: min(errors, key=lambda rival: elsewhere(rival, seed)) for seed in seeds}
