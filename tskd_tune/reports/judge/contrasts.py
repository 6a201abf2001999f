"""The difference of two arms over seeds, with its interval, effect sizes and tests, but without a verdict.

Two arms are compared over their common seeds, because the same seed gives the same initialization and the same order of
the data. Arms without a common seed are compared unpaired, and the result says so. No value is NaN: a statistic that
cannot be computed is None.

Sources: Student's t; Cohen 1988 and Lakens 2013 (d, d_z); Fisher 1935 (sign flips); Schuirmann 1987 (TOST); Welch 1947
(unpaired).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from scipy import special
from statsmodels.stats.weightstats import ttost_ind, ttost_paired

from tskd_tune.errors import InputError
from tskd_tune.reports.judge.sign_flips import SignFlip, sign_flip
from tskd_tune.reports.judge.values import LARGEST, LEVEL, Interval, Values, checked, is_flat, t_interval, tolerance
from tskd_tune.reports.judge.variance_components import Cells, Teachers, teachers_of

MARGIN = 0.3

Spread = Literal["measured", "constant", "identical"]


@dataclass(frozen=True)
class Contrast:
    """The difference between an arm and a baseline, in the unit of the values, with everything that a verdict needs.

    If ``paired``, ``seeds`` are the common seeds and ``n`` is their number. Otherwise ``seeds`` is empty and ``n`` is
    the number of seeds of the arm with fewer seeds. ``only_arm`` and ``only_baseline`` are the seeds that the other arm
    lacks. ``sd`` is the standard deviation of the differences per seed (unpaired: the root of the sum of both
    variances). ``se`` is the standard error of ``difference``, and ``df`` its degrees of freedom. ``d_z`` is the
    difference divided by ``sd``. ``d`` is the difference divided by the seed sd, which is the root of the mean variance
    of both arms. ``rho`` is the correlation of the arms over seeds.

    ``spread`` is None below two seeds, ``identical`` where both arms have equal values in every seed, and ``constant``
    where the difference is the same in every seed. In both cases there is no t test (``t_p`` is None), and the
    sign-flip test is used, which needs no standard deviation. For unpaired arms whose values do not vary, there is no
    test.

    ``teachers`` is the analysis over several teachers, None with one. Then the value of a seed is its mean over the
    teachers, and all other statistics here are over seeds alone.
    """

    arm: str
    baseline: str
    paired: bool
    n: int
    seeds: tuple[int, ...]
    only_arm: tuple[int, ...]
    only_baseline: tuple[int, ...]
    spread: Spread | None
    difference: float | None
    interval: Interval | None
    sd: float | None
    se: float | None
    df: float | None
    d_z: float | None
    d: float | None
    rho: float | None
    t_p: float | None
    sign_flip_p: float | None
    sign_flip_smallest: float | None
    sign_flip_method: str | None
    margin: float | None
    tost_p: float | None
    teachers: Teachers | None = None

    @property
    def p(self) -> float | None:
        """The p value of the verdict: of the t test, or of the sign flips where the differences do not vary."""
        return self.sign_flip_p if self.t_p is None else self.t_p

    def interval_at(self, level: float) -> Interval | None:
        """Return the interval of the difference at another level; None where the standard deviation is 0 or unknown."""
        if self.difference is None or not self.se or not self.df:
            return None
        return t_interval(self.difference, self.se, self.df, level, "t" if self.paired else "welch")


def contrast(
    values: Values,
    baseline_values: Values,
    *,
    arm: str = "arm",
    baseline: str = "baseline",
    margin: float | None = MARGIN,
    cells: Cells | None = None,
) -> Contrast:
    """Compare an arm with a baseline: paired over their common seeds, unpaired (Welch) without common seeds.

    Args:
        values: seed -> value of the arm.
        baseline_values: seed -> value of the baseline.
        arm: the arm's name.
        baseline: the baseline's name.
        margin: TOST tests whether the difference is within plus or minus this margin, in the unit of the values; None
            does no TOST.
        cells: teacher -> seed -> difference, for arms that were trained under several teachers.

    Raises:
        InputError: a value is not a finite number, or the margin is not positive.
    """
    if margin is not None and not 0 < margin < LARGEST:
        raise InputError(f"margin: must be a positive number of points, got {margin}")
    mine, theirs = checked(values, arm), checked(baseline_values, baseline)
    disjoint = bool(mine and theirs) and not mine.keys() & theirs.keys()
    found = _unpaired(mine, theirs, margin) if disjoint else _paired(mine, theirs, margin)
    return Contrast(
        arm=arm,
        baseline=baseline,
        paired=not disjoint,
        n=found.n,
        seeds=found.seeds,
        only_arm=tuple(seed for seed in mine if seed not in theirs),
        only_baseline=tuple(seed for seed in theirs if seed not in mine),
        spread=found.spread,
        difference=found.difference,
        interval=found.inference.interval,
        sd=found.inference.sd,
        se=found.inference.se,
        df=found.inference.df,
        d_z=found.inference.d_z,
        d=found.d,
        rho=found.rho,
        t_p=found.inference.t_p,
        sign_flip_p=found.flips.p if found.flips else None,
        sign_flip_smallest=found.flips.smallest if found.flips else None,
        sign_flip_method=found.flips.method if found.flips else None,
        margin=margin,
        tost_p=found.tost_p,
        teachers=teachers_of(cells, found.seeds) if cells else None,
    )


class _Inference(NamedTuple):
    """The interval and tests that follow from a difference, its standard error and its degrees of freedom."""

    sd: float | None
    se: float | None
    df: float | None = None
    d_z: float | None = None
    interval: Interval | None = None
    t_p: float | None = None


class _Compared(NamedTuple):
    """The statistics of two arms together."""

    n: int
    seeds: tuple[int, ...]
    spread: Spread | None
    difference: float | None
    inference: _Inference
    d: float | None
    rho: float | None
    flips: SignFlip | None
    tost_p: float | None


def _paired(mine: Values, theirs: Values, margin: float | None) -> _Compared:
    seeds = [seed for seed in mine if seed in theirs]
    a, b = [mine[seed] for seed in seeds], [theirs[seed] for seed in seeds]
    n = len(seeds)
    rounding = tolerance(a + b)
    differences = [x - y if abs(x - y) > rounding else 0.0 for x, y in zip(a, b, strict=True)]
    difference = statistics.fmean(differences) if n else None
    spread = _spread_of(differences, rounding)
    sd = statistics.stdev(differences) if spread == "measured" else 0.0 if spread else None
    tost_p = None
    if margin is not None:
        measured = spread == "measured"
        tost_p = _paired_tost(a, b, margin) if measured else _flat_tost(difference, n, margin - rounding)
    return _Compared(
        n=n,
        seeds=tuple(seeds),
        spread=spread,
        difference=difference,
        inference=_inference(difference, sd, sd / math.sqrt(n) if sd is not None else None, n - 1.0, "t"),
        d=_ratio(difference, _seed_sd(a, b)),
        rho=_correlation(a, b),
        flips=sign_flip(differences) if n else None,
        tost_p=tost_p,
    )


def _unpaired(mine: Values, theirs: Values, margin: float | None) -> _Compared:
    a, b = list(mine.values()), list(theirs.values())
    n = min(len(a), len(b))
    difference = statistics.fmean(a) - statistics.fmean(b)
    spread: Spread | None = None
    sd = se = None
    df = 0.0
    if n > 1:
        flat = is_flat(a) and is_flat(b)
        spread = "measured" if not flat else "identical" if abs(difference) <= tolerance(a + b) else "constant"
        variances = (0.0, 0.0) if flat else (statistics.variance(a), statistics.variance(b))
        parts = variances[0] / len(a), variances[1] / len(b)
        sd, se = math.sqrt(sum(variances)), math.sqrt(sum(parts))
        weighted = parts[0] ** 2 / (len(a) - 1) + parts[1] ** 2 / (len(b) - 1)
        df = sum(parts) ** 2 / weighted if weighted else 0.0
    return _Compared(
        n=n,
        seeds=(),
        spread=spread,
        difference=difference,
        inference=_inference(difference, sd, se, df, "welch"),
        d=_ratio(difference, _seed_sd(a, b)),
        rho=None,
        flips=None,
        tost_p=_welch_tost(a, b, margin) if spread == "measured" and margin is not None else None,
    )


def _inference(
    difference: float | None, sd: float | None, se: float | None, df: float, method: Literal["t", "welch"]
) -> _Inference:
    if difference is None or not sd or not se:
        return _Inference(sd, se)
    return _Inference(
        sd,
        se,
        df=df,
        d_z=difference / sd if method == "t" else None,
        interval=t_interval(difference, se, df, LEVEL, method),
        t_p=float(2 * special.stdtr(df, -abs(difference / se))),
    )


def _spread_of(differences: Sequence[float], rounding: float) -> Spread | None:
    if len(differences) < 2:
        return None
    if not any(differences):
        return "identical"
    return "constant" if max(differences) - min(differences) <= rounding else "measured"


def _seed_sd(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Return the root of the mean of both variances; None where no value varies."""
    if min(len(a), len(b)) < 2 or (is_flat(a) and is_flat(b)):
        return None
    return math.sqrt((statistics.variance(a) + statistics.variance(b)) / 2)


def _ratio(difference: float | None, sd: float | None) -> float | None:
    return difference / sd if difference is not None and sd else None


def _correlation(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Return Pearson's correlation; None below three seeds, because two seeds always give -1 or 1."""
    if len(a) < 3 or is_flat(a) or is_flat(b):
        return None
    return max(-1.0, min(1.0, statistics.correlation(a, b)))


# Equivalence: two one-sided tests


def _paired_tost(a: Sequence[float], b: Sequence[float], margin: float) -> float:
    return float(ttost_paired(np.asarray(a), np.asarray(b), -margin, margin)[0])


def _welch_tost(a: Sequence[float], b: Sequence[float], margin: float) -> float:
    return float(ttost_ind(np.asarray(a), np.asarray(b), -margin, margin, usevar="unequal")[0])


def _flat_tost(difference: float | None, n: int, room: float) -> float | None:
    """Return the exact p of both one-sided sign-flip tests where the difference is the same in every seed.

    With ``room`` to the margin, all n differences are inside of both ends of the margin, and only one of the 2^n flips
    is as extreme.
    """
    if difference is None or n < 2:
        return None
    return 0.5**n if abs(difference) < room else 1.0
