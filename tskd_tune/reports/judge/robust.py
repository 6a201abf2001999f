"""Aggregates that single collapsed runs hardly move: the interquartile mean and the probability of improvement.

The interquartile mean of n values leaves out the lowest and the highest n // 4 and is the mean of the rest. The
probability of improvement is the share of all pairs of a run of the arm and a run of the baseline in which the arm is
better; a tie counts half. Their intervals are percentile intervals of a bootstrap over runs, with a fixed generator.

Source: Agarwal et al. 2021, Deep Reinforcement Learning at the Edge of the Statistical Precipice (rliable).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tskd_tune.reports.judge.values import LEVEL

LEAST_RUNS = 5
"""Below five runs of an arm there is no bootstrap."""

RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """A value with its bootstrap interval at ``level``; the ends are None below five runs."""

    value: float
    low: float | None
    high: float | None
    level: float = LEVEL


def interquartile_mean(values: Sequence[float]) -> Estimate | None:
    """Return the interquartile mean of an arm's values; None without a value."""
    if not values:
        return None

    def aggregate(sample: np.ndarray, axis: int = -1) -> np.ndarray:
        ordered = np.sort(np.moveaxis(sample, axis, -1), axis=-1)
        cut = ordered.shape[-1] // 4
        return np.asarray(ordered[..., cut : ordered.shape[-1] - cut].mean(axis=-1))

    return _estimate([values], aggregate)


def probability_of_improvement(values: Sequence[float], baseline: Sequence[float], *, mode: str) -> Estimate | None:
    """Return the probability that a run of an arm is better than a run of its baseline; None without a value.

    Args:
        values: the arm's values.
        baseline: the baseline's values.
        mode: ``max`` where a larger value is better, ``min`` where a smaller one is.
    """
    if not values or not baseline:
        return None
    sign = 1 if mode == "max" else -1

    def aggregate(ours: np.ndarray, theirs: np.ndarray, axis: int = -1) -> np.ndarray:
        ours, theirs = (np.moveaxis(each, axis, -1) for each in (ours, theirs))
        difference = sign * (ours[..., :, None] - theirs[..., None, :])
        return np.asarray((np.sign(difference) + 1).mean(axis=(-2, -1)) / 2)

    return _estimate([values, baseline], aggregate)


def _estimate(samples: Sequence[Sequence[float]], aggregate: Callable[..., np.ndarray]) -> Estimate:
    arrays = tuple(np.asarray(sample, dtype=float) for sample in samples)
    value = float(aggregate(*arrays))
    if min(map(len, arrays)) < LEAST_RUNS:
        return Estimate(value, None, None)
    from scipy import stats  # takes half a second to import

    found = stats.bootstrap(
        arrays,
        aggregate,
        n_resamples=RESAMPLES,
        vectorized=True,
        confidence_level=LEVEL,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    low, high = float(found.low), float(found.high)
    return Estimate(value, low, high) if math.isfinite(low) and math.isfinite(high) else Estimate(value, None, None)
