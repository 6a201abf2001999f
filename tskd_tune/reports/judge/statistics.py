"""What the seeds of an arm, and of two arms, say: means, intervals, effect sizes and tests; no verdicts.

An arm is a mapping of seed to value, in points (percent). Two arms are compared over the seeds that both have, because
the same seed gives the same initialization and the same order of the data; arms that share no seed are compared
unpaired, and the result says so. Nothing here is ever NaN: what cannot be computed is None.

Sources: Student's t; Efron 1987 (BCa bootstrap); Cohen 1988 and Lakens 2013 (d, d_z); Fisher 1935 (sign flips);
Schuirmann 1987 (TOST); Welch 1947 (unpaired).
"""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy import special, stats
from statsmodels.stats.weightstats import ttost_ind, ttost_paired

from tskd_tune.errors import InputError

MARGIN = 0.3
LEVEL = 0.95
BOOTSTRAP_FROM = 10
EXACT_UP_TO = 40
MONTE_CARLO_FLIPS = 99_999
# Beyond this a square overflows; nothing that is measured in points comes near.
LARGEST = 1e100

Values = Mapping[int, float]
Spread = Literal["measured", "constant", "identical"]


@dataclass(frozen=True)
class Interval:
    """A confidence interval: its ends, its level and how it was made.

    ``t`` is Student's over seeds, ``welch`` the unpaired form, ``bca`` the bias-corrected, accelerated bootstrap.
    """

    low: float
    high: float
    level: float
    method: Literal["t", "welch", "bca"]


@dataclass(frozen=True)
class Arm:
    """One arm over its seeds.

    ``sd`` is the sample standard deviation (n - 1). ``interval`` and ``bootstrap`` are of the mean at 95 %; the
    bootstrap needs 10 seeds. ``note`` says in words why something is missing; it is empty where nothing is.
    """

    name: str
    seeds: tuple[int, ...]
    n: int
    mean: float | None
    sd: float | None
    interval: Interval | None
    bootstrap: Interval | None
    note: str

    def plain(self) -> dict[str, Any]:
        """Return the arm as plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Contrast:
    """The difference of an arm to a baseline, in points, with everything that a verdict needs.

    ``seeds`` are those that count: common to both arms where ``paired``, else none, and ``n`` is the number of common
    seeds, else of the smaller arm's. ``only_arm`` and ``only_baseline`` are the seeds that the other arm lacks.
    ``sd`` is that of the differences by seed (unpaired: the root of the summed variances), ``se`` the standard error
    of ``difference`` and ``df`` its degrees of freedom. ``d_z`` is the difference in units of ``sd``, ``d`` in units of
    the seed sd (the root of the mean variance of the arms), ``rho`` the correlation of the arms over seeds.

    ``spread`` is None below two seeds, ``identical`` where both arms have the same value in every seed and ``constant``
    where the difference is the same in every seed. Then no t test exists (``t_p`` is None) and sign flips stand in:
    they need no spread. In unpaired arms without a spread no test is possible at all.
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
    margin: float
    tost_p: float | None

    @property
    def p(self) -> float | None:
        """The p value that a verdict rests on: the t test's, or the sign flips' where the differences do not spread."""
        return self.sign_flip_p if self.t_p is None else self.t_p

    def interval_at(self, level: float) -> Interval | None:
        """Return the interval of the difference at another level; None where there is no spread."""
        if self.difference is None or not self.se or not self.df:
            return None
        return _t_interval(self.difference, self.se, self.df, level, "t" if self.paired else "welch")

    def plain(self) -> dict[str, Any]:
        """Return the contrast as plain data."""
        return asdict(self) | {"p": self.p}


# One arm


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
    if mean is not None and sd is not None and not _flat(numbers):
        interval = _t_interval(mean, sd / math.sqrt(n), n - 1, LEVEL, "t")
    bootstrap = _bca(numbers) if interval and n >= BOOTSTRAP_FROM else None
    return Arm(name, seeds, n, mean, sd, interval, bootstrap, _what_is_missing(n, interval, bootstrap))


def _what_is_missing(n: int, interval: Interval | None, bootstrap: Interval | None) -> str:
    if n == 0:
        return "no seed has finished"
    if n == 1:
        return "one seed: no spread and no interval can be given"
    if interval is None:
        return f"all {n} seeds gave the same value: no interval can be given"
    if bootstrap is None and n >= BOOTSTRAP_FROM:
        return "the bootstrap has no BCa interval here: the values are too few or too much alike"
    return ""


def _bca(numbers: Sequence[float]) -> Interval | None:
    """Return the BCa interval of the mean; the generator is fixed, so the same values give the same interval."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = stats.bootstrap((np.asarray(numbers),), np.mean, confidence_level=LEVEL, rng=np.random.default_rng(0))
    low, high = map(float, found.confidence_interval)
    return Interval(low, high, LEVEL, "bca") if math.isfinite(low) and math.isfinite(high) else None


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


# Two arms


def contrast(
    values: Values,
    baseline_values: Values,
    *,
    arm: str = "arm",
    baseline: str = "baseline",
    margin: float = MARGIN,
) -> Contrast:
    """Compare an arm with a baseline: paired over their common seeds, unpaired (Welch) where they share none.

    Args:
        values: seed -> value of the arm, in points.
        baseline_values: seed -> value of the baseline.
        arm: the arm's name.
        baseline: the baseline's name.
        margin: TOST asks whether the difference lies within plus or minus this many points.

    Raises:
        InputError: a value is not a finite number, or the margin is not positive.
    """
    if not 0 < margin < LARGEST:
        raise InputError(f"margin: must be a positive number of points, got {margin}")
    mine, theirs = checked(values, arm), checked(baseline_values, baseline)
    disjoint = bool(mine and theirs) and not mine.keys() & theirs.keys()
    facts = _unpaired(mine, theirs, margin) if disjoint else _paired(mine, theirs, margin)
    return Contrast(
        arm=arm,
        baseline=baseline,
        paired=not disjoint,
        only_arm=tuple(seed for seed in mine if seed not in theirs),
        only_baseline=tuple(seed for seed in theirs if seed not in mine),
        margin=margin,
        **facts,
    )


def _paired(mine: Values, theirs: Values, margin: float) -> dict[str, Any]:
    seeds = [seed for seed in mine if seed in theirs]
    a, b = [mine[seed] for seed in seeds], [theirs[seed] for seed in seeds]
    n = len(seeds)
    rounding = _tolerance(a + b)
    differences = [x - y if abs(x - y) > rounding else 0.0 for x, y in zip(a, b, strict=True)]
    difference = statistics.fmean(differences) if n else None
    spread = _spread_of(differences, rounding)
    sd = statistics.stdev(differences) if spread == "measured" else 0.0 if spread else None
    flips = sign_flip(differences) if n else None
    return {
        "n": n,
        "seeds": tuple(seeds),
        "spread": spread,
        "difference": difference,
        **_inference(difference, sd, sd / math.sqrt(n) if sd is not None else None, n - 1.0, "t"),
        "d": _ratio(difference, _seed_sd(a, b)),
        "rho": _correlation(a, b),
        "sign_flip_p": flips.p if flips else None,
        "sign_flip_smallest": flips.smallest if flips else None,
        "sign_flip_method": flips.method if flips else None,
        "tost_p": _paired_tost(a, b, margin) if spread == "measured" else _flat_tost(difference, n, margin - rounding),
    }


def _unpaired(mine: Values, theirs: Values, margin: float) -> dict[str, Any]:
    a, b = list(mine.values()), list(theirs.values())
    n = min(len(a), len(b))
    difference = statistics.fmean(a) - statistics.fmean(b)
    spread: Spread | None = None
    sd = se = None
    df = 0.0
    if n > 1:
        flat = _flat(a) and _flat(b)
        spread = "measured" if not flat else "identical" if abs(difference) <= _tolerance(a + b) else "constant"
        variances = (0.0, 0.0) if flat else (statistics.variance(a), statistics.variance(b))
        parts = variances[0] / len(a), variances[1] / len(b)
        sd, se = math.sqrt(sum(variances)), math.sqrt(sum(parts))
        weighted = parts[0] ** 2 / (len(a) - 1) + parts[1] ** 2 / (len(b) - 1)
        df = sum(parts) ** 2 / weighted if weighted else 0.0
    return {
        "n": n,
        "seeds": (),
        "spread": spread,
        "difference": difference,
        **_inference(difference, sd, se, df, "welch"),
        "d": _ratio(difference, _seed_sd(a, b)),
        "rho": None,
        "sign_flip_p": None,
        "sign_flip_smallest": None,
        "sign_flip_method": None,
        "tost_p": _welch_tost(a, b, margin) if spread == "measured" else None,
    }


def _inference(
    difference: float | None, sd: float | None, se: float | None, df: float, method: Literal["t", "welch"]
) -> dict[str, Any]:
    """Return what follows from a difference, its standard error and its degrees of freedom."""
    found: dict[str, Any] = {"sd": sd, "se": se, "df": None, "d_z": None, "interval": None, "t_p": None}
    if difference is None or not sd or not se:
        return found
    return found | {
        "df": df,
        "d_z": difference / sd if method == "t" else None,
        "interval": _t_interval(difference, se, df, LEVEL, method),
        "t_p": float(2 * special.stdtr(df, -abs(difference / se))),
    }


def _t_interval(center: float, se: float, df: float, level: float, method: Literal["t", "welch"]) -> Interval:
    half = float(special.stdtrit(df, (1 + level) / 2)) * se
    return Interval(center - half, center + half, level, method)


def _tolerance(numbers: Sequence[float]) -> float:
    """Return what two of these numbers may differ by for rounding alone; accuracies step by far more."""
    return max(1e-9 * max(map(abs, numbers), default=0.0), 1e-12)


def _flat(numbers: Sequence[float]) -> bool:
    return max(numbers) - min(numbers) <= _tolerance(numbers)


def _spread_of(differences: Sequence[float], rounding: float) -> Spread | None:
    if len(differences) < 2:
        return None
    if not any(differences):
        return "identical"
    return "constant" if max(differences) - min(differences) <= rounding else "measured"


def _seed_sd(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Return the root of the mean of both variances; None where nothing spreads."""
    if min(len(a), len(b)) < 2 or (_flat(a) and _flat(b)):
        return None
    return math.sqrt((statistics.variance(a) + statistics.variance(b)) / 2)


def _ratio(difference: float | None, sd: float | None) -> float | None:
    return difference / sd if difference is not None and sd else None


def _correlation(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Return Pearson's correlation; with two seeds it could only be -1 or 1."""
    if len(a) < 3 or _flat(a) or _flat(b):
        return None
    return max(-1.0, min(1.0, statistics.correlation(a, b)))


# Equivalence: two one-sided tests


def _paired_tost(a: Sequence[float], b: Sequence[float], margin: float) -> float:
    return float(ttost_paired(np.asarray(a), np.asarray(b), -margin, margin)[0])


def _welch_tost(a: Sequence[float], b: Sequence[float], margin: float) -> float:
    return float(ttost_ind(np.asarray(a), np.asarray(b), -margin, margin, usevar="unequal")[0])


def _flat_tost(difference: float | None, n: int, room: float) -> float | None:
    """Return the exact p of both one-sided sign-flip tests where the difference is the same in every seed.

    With ``room`` to the margin, all n differences lie on one side of either end, and one of 2^n flips is as extreme.
    """
    if difference is None or n < 2:
        return None
    return 0.5**n if abs(difference) < room else 1.0


# Sign flips


class SignFlip(NamedTuple):
    """The two-sided p of all sign flips, the smallest that as many seeds can reach, and how it was counted."""

    p: float
    smallest: float
    method: str


def sign_flip(differences: Sequence[float]) -> SignFlip:
    """Return how many of all 2^n flips of the signs give a mean as far from zero as the one found.

    Up to 40 differences the count is exact: the sums of either half's flips are enumerated, those of the second
    sorted, and pairs counted by bisection. Beyond, 99,999 random flips are drawn with a fixed generator, and the data
    count as one more flip.
    """
    sample = np.asarray(differences, dtype=float)
    # Flips that differ by rounding alone are ties, and ties count.
    least = abs(float(sample.sum())) - 1e-9 * float(np.abs(sample).sum())
    smallest = 2.0 ** (1 - len(sample))
    if len(sample) > EXACT_UP_TO:
        drawn = _drawn_share(sample, least)
        return SignFlip(drawn, max(smallest, 1 / (MONTE_CARLO_FLIPS + 1)), f"Monte Carlo, {MONTE_CARLO_FLIPS:,} flips")
    if least <= 0:
        return SignFlip(1.0, smallest, "exact")
    half = len(sample) // 2
    first, second = _flipped_sums(sample[:half]), np.sort(_flipped_sums(sample[half:]))
    above = len(first) * len(second) - int(np.searchsorted(second, least - first, side="left").sum())
    return SignFlip(min(1.0, 2.0 * above / 2.0 ** len(sample)), smallest, "exact")


def _flipped_sums(sample: np.ndarray) -> np.ndarray:
    """Return the sums of all 2^n flips of n numbers."""
    sums = np.zeros(1)
    for number in sample:
        sums = np.concatenate([sums + number, sums - number])
    return sums


def _drawn_share(sample: np.ndarray, least: float) -> float:
    random = np.random.default_rng(0)
    extreme = 1
    for _ in range(9):
        flips = 2.0 * random.integers(0, 2, size=(MONTE_CARLO_FLIPS // 9, len(sample)), dtype=np.int8) - 1.0
        extreme += int((np.abs(flips @ sample) >= least).sum())
    return extreme / (MONTE_CARLO_FLIPS + 1)
