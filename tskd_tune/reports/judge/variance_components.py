"""Differences under several teachers: the teacher's share of their variance, and a test over teachers and seeds.

Two arms are trained under T teachers with S seeds each, so the difference of teacher t and seed s is

    d[t, s] = mean + teacher[t] + seed[s] + error[t, s],

with independent normal effects of variances ``var_teacher``, ``var_seed`` and ``var_error``. T teachers and S seeds are
not T S independent pairs: all pairs of one teacher share its effect. With the mean squares MT, MS and ME of the two-way
analysis of variance, the methods of moments gives var_teacher = (MT - ME) / S, var_seed = (MS - ME) / T and var_error =
ME; a negative estimate counts as 0.

The mean over all cells has the variance var_teacher / T + var_seed / S + var_error / (T S). It is at most the sum of
the expected squares of two standard errors: of the T means of the teachers, MT / (T S), and of the S means of the
seeds, MS / (T S). Both are independent of the mean. So with Student's quantiles for T - 1 and S - 1 degrees of freedom,

    difference ** 2 > quantile(T - 1) ** 2 * MT / (T S) + quantile(S - 1) ** 2 * MS / (T S)

has at most the level of the quantiles if the true difference is 0 (Banerjee 1960: the distribution function of chi
square with one degree of freedom is concave). Satterthwaite's degrees of freedom do not keep the level with two
teachers: in simulated tables of one seed test they gave up to 20 % false verdicts.

Where seeds are added, the quantile of the seeds is the bound of the sequential test. The differences between the
teachers are measured again with each seed, so their largest standard error so far counts, at four fifths of the level.
That this keeps 5 % is simulated, not proven: `python -m benchmarks teachers`.

Sources: Searle, Casella and McCulloch, Variance Components, 1992, chapter 4 (the analysis of variance); Banerjee,
Sankhya 22, 1960 (sums of variances); McGraw and Wong 1996, case 2 (A, 1) (the interval of the share).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from scipy import optimize, special

from tskd_tune.errors import InputError
from tskd_tune.reports.judge.values import LEVEL

Cells: TypeAlias = Mapping[int, Mapping[int, float]]
"""Seed of a teacher -> seed -> the value of an arm, or the difference of two arms."""

Crossed: TypeAlias = Mapping[tuple[str, str], Cells]
"""(arm, baseline) -> the differences of a comparison under several teachers; one with a single teacher is missing."""

WHILE_ADDED = 0.8
"""The part of the level at which teachers are tested while seeds are added."""


@dataclass(frozen=True)
class Teachers:
    """The two-way analysis of variance of the differences of two arms under several teachers.

    Attributes:
        seeds: the seeds of the teachers.
        n: the number of seeds of the students with a difference under each of the teachers.
        var_teacher: the variance of a difference that the teacher causes, in the squared unit of the values.
        var_seed: the variance that the student's seed causes under all teachers alike.
        var_error: the variance that is left: seeds that differ by teacher.
        share: ``var_teacher`` divided by the sum of the three variances; None where no difference varies.
        share_low: the low end of the 95 % interval of the share.
        share_high: the high end of this interval.
        se: the standard error of the mean difference over teachers alone.
        means: the mean difference under each teacher.
    """

    seeds: tuple[int, ...]
    n: int
    var_teacher: float
    var_seed: float
    var_error: float
    share: float | None
    share_low: float | None
    share_high: float | None
    se: float
    means: tuple[float, ...]

    @property
    def count(self) -> int:
        """The number of teachers."""
        return len(self.seeds)


def teachers_of(differences: Cells, seeds: Sequence[int]) -> Teachers | None:
    """Analyze differences under several teachers; None below two teachers or two seeds.

    >>> found = teachers_of({0: {1: 1.0, 2: 3.0, 3: 2.0}, 1: {1: 4.0, 2: 5.0, 3: 6.0}}, [1, 2, 3])
    >>> found.var_teacher, found.var_seed, found.var_error, round(found.share, 3)
    (4.333333333333333, 0.5, 0.5, 0.812)

    Args:
        differences: teacher -> seed -> difference; each teacher has each of the seeds.
        seeds: the seeds that are used.
    """
    if len(differences) < 2 or len(seeds) < 2:
        return None
    table = np.array([[found[seed] for seed in seeds] for found in differences.values()])
    count, n = table.shape
    mean, of_teacher, of_seed = table.mean(), table.mean(axis=1), table.mean(axis=0)
    rest = table - of_teacher[:, None] - of_seed[None, :] + mean
    square = _without_rounding(table, n * of_teacher.var(ddof=1))
    other = _without_rounding(table, count * of_seed.var(ddof=1))
    error = _without_rounding(table, float((rest**2).sum()) / ((count - 1) * (n - 1)))
    parts = max(0.0, (square - error) / n), max(0.0, (other - error) / count), error
    total = sum(parts)
    low, high = _share_interval(square, other, error, count, n) if total else (None, None)
    return Teachers(
        seeds=tuple(differences),
        n=n,
        var_teacher=parts[0],
        var_seed=parts[1],
        var_error=parts[2],
        share=parts[0] / total if total else None,
        share_low=low,
        share_high=high,
        se=math.sqrt(square / (count * n)),
        means=tuple(map(float, of_teacher)),
    )


def _without_rounding(table: np.ndarray, square: float) -> float:
    """Return a mean square; 0 where only the rounding of the values can have caused it."""
    return 0.0 if square <= (1e-12 * max(1.0, float(np.abs(table).max()))) ** 2 else float(square)


def _share_interval(square: float, other: float, error: float, count: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of the teacher's share: McGraw and Wong's for an intraclass correlation, (A, 1).

    Teachers are the rows and seeds the columns.

    Args:
        square: the mean square of the teachers.
        other: the mean square of the seeds.
        error: the mean square of what is left.
        count: the number of teachers.
        n: the number of seeds.
    """
    tail = (1 - LEVEL) / 2
    whole = square + (n - 1) * error + n * (other - error) / count
    share = min(max((square - error) / whole, 0.0), 1 - 1e-12) if whole > 0 else 0.0
    a = n * share / (count * (1 - share))
    b = 1 + a * (count - 1)
    weighted = (a * other) ** 2 / (n - 1) + (b * error) ** 2 / ((count - 1) * (n - 1))
    df = (a * other + b * error) ** 2 / weighted if weighted else 1.0
    at, back = (float(special.fdtri(*each, 1 - tail)) for each in ((count - 1, df), (df, count - 1)))
    beside = n * other + (n * count - n - count) * error
    if square <= 0 or beside + square <= 0:
        return 0.0, 1.0  # nothing is known of the teachers' variance, or of any other
    low = count * (square - at * error) / (at * beside + count * square)
    high = count * (back * square - error) / (beside + count * back * square)
    return min(max(low, 0.0), 1.0), min(max(high, 0.0), 1.0)


# The test over teachers and seeds


@dataclass(frozen=True)
class Between:
    """How far the mean difference varies over teachers: their number, and its standard error over teachers alone."""

    count: int
    se: float
    share: float = 1.0
    """The part of the level at which the teachers are tested."""

    def half(self, of_seeds: float, alpha: float) -> float:
        """Return half of the width of an interval, given the half over seeds alone at the same alpha."""
        return math.hypot(of_seeds, -float(special.stdtrit(self.count - 1, self.share * alpha / 2)) * self.se)

    def p(self, difference: float, of_seeds: Callable[[float], float]) -> float:
        """Return the two-sided p over teachers and seeds: the alpha at which `half` is as large as the difference.

        Args:
            difference: the distance of the mean difference from what is tested.
            of_seeds: the two-sided p over seeds alone of this distance, multiplied by a number from 0 to 1.
        """

        def of_teachers(part: float) -> float:
            if not self.se:
                return 0.0
            t = abs(part * difference) / self.se
            return min(1.0, float(2 * special.stdtr(self.count - 1, -t)) / self.share)

        def excess(split: float) -> float:
            return of_seeds(math.sqrt(split)) - of_teachers(math.sqrt(1 - split))

        if excess(1.0) >= 0:
            return of_seeds(1.0) if not self.se else 1.0
        if excess(0.0) <= 0:
            return 1.0
        split = float(optimize.brentq(excess, 0.0, 1.0, xtol=1e-10))
        return min(1.0, max(of_seeds(math.sqrt(split)), of_teachers(math.sqrt(1 - split))))


def between(found: Teachers | None, share: float = 1.0) -> Between | None:
    """Return what a test needs of an analysis of variance; None without several teachers."""
    return None if found is None else Between(found.count, found.se, share)


def differences(ours: Cells, theirs: Cells, values: Mapping[int, float], others: Mapping[int, float]) -> Cells:
    """Return teacher -> seed -> difference of two arms; an arm without several teachers has one value per seed.

    Args:
        ours: the cells of the arm; empty where the arm has no teacher.
        theirs: the cells of the baseline.
        values: seed -> value of the arm, for the seeds with a value under each teacher.
        others: seed -> value of the baseline.

    Raises:
        InputError: both arms have teachers, but not the same ones.
    """
    if ours and theirs and set(ours) != set(theirs):
        lists = [", ".join(map(str, sorted(cells))) for cells in (ours, theirs)]
        raise InputError(f"teacher.seeds: two arms of a comparison have the teachers {lists[0]} and {lists[1]}")
    seeds = [seed for seed in sorted(values) if seed in others]
    return {
        teacher: {seed: (ours.get(teacher) or values)[seed] - (theirs.get(teacher) or others)[seed] for seed in seeds}
        for teacher in sorted(ours or theirs)
    }
