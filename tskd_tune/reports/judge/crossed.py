"""The difference of two arms as a mean over two samples at once: the seeds, and the images of the test set.

Run s of an arm and run s of its baseline are right or wrong about the same image i. Their difference ``d[s, i]`` is 1
where only the arm is right, -1 where only the baseline is right, and 0 otherwise. The difference of the two accuracies
is the mean of all ``d``. How sure it is depends on what would be drawn anew:

- other seeds and the same images: the t interval of the S means over the images. It is that of the paired t test.
- other images and the same runs: the t interval of the I means over the seeds.
- both: in ``d[s, i] = mean + a[s] + b[i] + e[s, i]`` with independent parts, the variance of the mean is
  ``var(a) / S + var(b) / I + var(e) / (S I)``. The mean squares of the two-way table estimate it without bias::

      MS_s = I sum_s (d[s, .] - d[., .])^2 / (S - 1)         expected: var(e) + I var(a)
      MS_i = S sum_i (d[., i] - d[., .])^2 / (I - 1)         expected: var(e) + S var(b)
      MS_e = the rest's sum of squares / ((S - 1) (I - 1))   expected: var(e)
      variance of the mean = (MS_s + MS_i - MS_e) / (S I)

  A variance cannot be negative: MS_s and MS_i count as MS_e where they are smaller. So this variance is at least each
  of the other two. The degrees of freedom are Satterthwaite's. They may be more than S - 1, and the interval shorter
  than that of the seeds alone; then the longer interval is taken, since what holds for both holds for each.

Sources: Owen 2007, The pigeonhole bootstrap (the variance of a mean over two crossed samples); Searle, Casella and
McCulloch 1992, Variance Components (the mean squares); Satterthwaite 1946 (the degrees of freedom).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tskd_tune.reports.judge.values import LEVEL, Interval, t_interval

PERCENT = 100.0


@dataclass(frozen=True)
class Sampling:
    """How sure a difference is if something is drawn anew: its standard error, degrees of freedom and 95 % interval."""

    se: float
    df: float
    interval: Interval

    @property
    def half(self) -> float:
        """Half of the length of the interval."""
        return (self.interval.high - self.interval.low) / 2


@dataclass(frozen=True)
class Crossed:
    """The difference of two arms over seeds and images, in percentage points.

    Attributes:
        seeds: the common seeds, S of them.
        images: the number of images, I.
        difference: the mean of all ``d``.
        over_seeds: for other seeds and these images; None with one seed, or where all seeds have one difference.
        over_images: for other images and these runs; None with one image, or where the runs agree about all images.
        over_both: for other seeds and other images; None where one of the two samples is a single one, or nothing
            varies.
        seed_sd: the standard deviation of ``a``, which is that of the true differences of the seeds; 0 where the
            estimate of its square is negative. None with a single seed or image; so are the next two.
        image_sd: the standard deviation of ``b``.
        rest_sd: the standard deviation of ``e``.
    """

    seeds: tuple[int, ...]
    images: int
    difference: float
    over_seeds: Sampling | None
    over_images: Sampling | None
    over_both: Sampling | None
    seed_sd: float | None
    image_sd: float | None
    rest_sd: float | None


def crossed(differences: np.ndarray, seeds: Sequence[int]) -> Crossed:
    """Return the difference over seeds and images.

    Args:
        differences: ``d`` as ``[S, I]``: -1, 0 or 1. There must be at least one.
        seeds: the seed of each of the S rows.
    """
    d = PERCENT * np.asarray(differences, dtype=float)
    count, images = d.shape
    mean, of_seeds, of_images = float(d.mean()), d.mean(axis=1), d.mean(axis=0)
    by_seed, by_image = _mean_square(of_seeds, images), _mean_square(of_images, count)
    both: Sampling | None = None
    sds: tuple[float, float, float] | None = None
    if by_seed is not None and by_image is not None:
        rest = float(np.square(d - of_seeds[:, None] - of_images + mean).sum()) / ((count - 1) * (images - 1))
        both = _over_both(mean, by_seed, by_image, rest, d.shape)
        sds = (_root((by_seed - rest) / images), _root((by_image - rest) / count), _root(rest))
    cells = count * images
    over_seeds = None if by_seed is None else _sampling(mean, by_seed / cells, count - 1)
    over_images = None if by_image is None else _sampling(mean, by_image / cells, images - 1)
    return Crossed(
        seeds=tuple(seeds),
        images=images,
        difference=mean,
        over_seeds=over_seeds,
        over_images=over_images,
        over_both=_longest(both, over_seeds, over_images),
        seed_sd=sds[0] if sds else None,
        image_sd=sds[1] if sds else None,
        rest_sd=sds[2] if sds else None,
    )


def _mean_square(means: np.ndarray, each: int) -> float | None:
    """Return the mean square of means over ``each`` values; None for a single mean."""
    return None if len(means) < 2 else each * float(means.var(ddof=1))


def _over_both(mean: float, by_seed: float, by_image: float, rest: float, shape: tuple[int, int]) -> Sampling | None:
    count, images = shape
    parts = (max(by_seed, rest), count - 1), (max(by_image, rest), images - 1), (-rest, (count - 1) * (images - 1))
    total = sum(square for square, _ in parts)
    spread = sum(square**2 / df for square, df in parts)
    return _sampling(mean, total / (count * images), total**2 / spread) if spread else None


def _longest(both: Sampling | None, *others: Sampling | None) -> Sampling | None:
    """Return ``both`` with the longest of all intervals, which have one center."""
    if both is None:
        return None
    return replace(both, interval=max([both, *filter(None, others)], key=lambda one: one.half).interval)


def _sampling(mean: float, variance: float, df: float) -> Sampling | None:
    """Return the interval of a variance of the mean; None where it is 0 apart from rounding."""
    if variance < 1e-18:
        return None
    se = math.sqrt(variance)
    return Sampling(se, df, t_interval(mean, se, df, LEVEL, "t"))


def _root(variance: float) -> float:
    return math.sqrt(max(variance, 0.0))
