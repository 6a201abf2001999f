"""Whether a model of a search explains trials that it has not seen, which is what an importance rests on.

fANOVA reads its shares off a random forest. A forest also fits pure noise, and then the shares are shares of that fit.
Therefore the trials are split into folds, each fold is predicted by a forest of the other folds, and the R^2 of these
predictions is compared with 0. Its interval is that of a bootstrap over trials (Efron 1979). The interval does not
contain how the forests would differ for other trials, so it is a little too short.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

    from tskd_tune.plain import Json

FOLDS = 10
TREES = 64
"""As many as Optuna's fANOVA has."""
RESAMPLES = 2000


@dataclass(frozen=True)
class Explained:
    """How much of the variance of unseen trials a forest explains.

    Attributes:
        r2: 1 - squared errors / squared deviations from the mean; negative where the mean predicts better.
        low: the lower end of the 95 % bootstrap interval over trials.
        high: its upper end.
    """

    r2: float
    low: float
    high: float

    @property
    def is_something(self) -> bool:
        """Whether the whole interval is above 0."""
        return self.low > 0


def explained(points: Sequence[Sequence[tuple[Json, BaseDistribution]]], values: Sequence[float]) -> Explained:
    """Predict each trial from the others.

    Args:
        points: for each trial its parameters, each with its distribution, in the same order in all trials.
        values: the objective of each trial, at least four of them, and not all the same.
    """
    from scipy import stats

    truth = np.asarray(values, dtype=float)
    found = _predicted(np.asarray([_encoded(point) for point in points]), truth)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a resample of equal trials has no R^2; it is left out by the quantiles
        interval = stats.bootstrap(
            (truth, found), _r2, paired=True, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(0)
        )
    kept = interval.bootstrap_distribution[np.isfinite(interval.bootstrap_distribution)]
    low, high = np.quantile(kept, [0.025, 0.975])
    return Explained(float(_r2(truth, found)), float(low), float(high))


def _predicted(points: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the prediction of each trial by a forest that was fitted without the trial's fold."""
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.model_selection import KFold, cross_val_predict

    folds = KFold(min(FOLDS, len(truth)), shuffle=True, random_state=0)
    found = cross_val_predict(RandomForestRegressor(TREES, random_state=0), points, truth, cv=folds)
    return np.asarray(found)


def _r2(truth: np.ndarray, found: np.ndarray, axis: int = -1) -> np.ndarray:
    deviations = ((truth - truth.mean(axis=axis, keepdims=True)) ** 2).sum(axis=axis)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(1 - ((truth - found) ** 2).sum(axis=axis) / deviations)


def _encoded(point: Sequence[tuple[Json, BaseDistribution]]) -> list[float]:
    """Return the numbers of a point; a choice is one number for each of its values, 1 where it is chosen."""
    from optuna.distributions import CategoricalDistribution

    numbers: list[float] = []
    for value, distribution in point:
        if isinstance(distribution, CategoricalDistribution):
            numbers += [float(choice == value) for choice in distribution.choices]
        else:
            numbers.append(float(value) if isinstance(value, int | float) else math.nan)
    return numbers
