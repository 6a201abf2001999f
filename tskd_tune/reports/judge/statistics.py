"""The mean of one arm over its seeds, with its standard deviation and its intervals.

No value is NaN: a statistic that cannot be computed is None.

Sources: Student's t; Efron 1987 (BCa bootstrap).
"""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from tskd_tune.reports.judge.values import LEVEL, Interval, Values, checked, is_flat, t_interval

BOOTSTRAP_FROM = 10


@dataclass(frozen=True)
class Arm:
    """One arm over its seeds.

    ``sd`` is the sample standard deviation (n - 1). ``interval`` and ``bootstrap`` are 95 % intervals of the mean; the
    bootstrap needs 10 seeds. ``note`` says in words why a value is missing; empty where no value is missing.
    """

    name: str
    seeds: tuple[int, ...]
    n: int
    mean: float | None
    sd: float | None
    interval: Interval | None
    bootstrap: Interval | None
    note: str


def arm(values: Values, *, name: str = "arm") -> Arm:
    """Summarize one arm.

    Raises:
        InputError: a value is not a finite number.
    """
    known = checked(values, name)
    seeds, numbers = tuple(known), list(known.values())
    n = len(numbers)
    mean = statistics.fmean(numbers) if n else None
    sd = statistics.stdev(numbers) if n > 1 else None
    interval = None
    if mean is not None and sd is not None and not is_flat(numbers):
        interval = t_interval(mean, sd / math.sqrt(n), n - 1, LEVEL, "t")
    bootstrap = _bca(numbers) if interval and n >= BOOTSTRAP_FROM else None
    return Arm(name, seeds, n, mean, sd, interval, bootstrap, _what_is_missing(n, interval, bootstrap))


def _what_is_missing(n: int, interval: Interval | None, bootstrap: Interval | None) -> str:
    if n == 0:
        return "no seed has finished"
    if n == 1:
        return "one seed: no standard deviation and no interval can be given"
    if interval is None:
        return f"all {n} seeds gave the same value: no interval can be given"
    if bootstrap is None and n >= BOOTSTRAP_FROM:
        return "the bootstrap has no BCa interval here: the values are too few or too similar"
    return ""


def _bca(numbers: Sequence[float]) -> Interval | None:
    """Return the BCa interval of the mean; the generator is fixed, so the same values give the same interval."""
    # Imported here: few arms have the seeds for a bootstrap, and the import of scipy.stats takes half a second.
    import numpy as np
    from scipy import stats

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = stats.bootstrap((np.asarray(numbers),), np.mean, confidence_level=LEVEL, rng=np.random.default_rng(0))
    low, high = map(float, found.confidence_interval)
    return Interval(low, high, LEVEL, "bca") if math.isfinite(low) and math.isfinite(high) else None
