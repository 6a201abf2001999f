"""The power of a design, the smallest difference that it can detect, and the seeds that a difference needs.

A design is a number of seeds per arm, and the standard deviation of the difference between two arms, which is the
``sd`` of a contrast. Paired arms have n - 1 degrees of freedom. Unpaired arms with n seeds each have 2(n - 1).

Sources: noncentral t (Cohen 1988); the power of two one-sided tests (Phillips 1990), averaged over the sample's sd.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from scipy import optimize, special

from tskd_tune.errors import InputError

Level: TypeAlias = float | Callable[[int], float]
"""The level of a test, or the level by the number of seeds."""

ALPHA = 0.05
POWER = 0.8
MOST_SEEDS = 10_000
LARGE_EFFECT = 35.0


def power(difference: float, sd: float, n: int, *, alpha: float = ALPHA, paired: bool = True) -> float:
    """Return the probability that a two-sided t test detects a true difference, with the right sign.

    Args:
        difference: the true difference, in points.
        sd: the sd of the difference between the arms.
        n: the seeds per arm.
        alpha: the level of the test; for Holm's strictest step, the family's level divided by the family's size.
        paired: whether the arms share their seeds.

    Raises:
        InputError: an argument is out of its range.
    """
    if not math.isfinite(difference):
        raise InputError(f"difference: must be a finite number, got {difference}")
    effect = abs(difference) * math.sqrt(_seeds(n)) / _positive(sd, "sd")
    return _power(effect, _freedom(n, paired), _level(alpha))


def smallest_difference(
    sd: float, n: int, *, alpha: float = ALPHA, target: float = POWER, paired: bool = True
) -> float:
    """Return the difference that is detected with the power ``target``, in points.

    Raises:
        InputError: an argument is out of its range.
    """
    root = math.sqrt(_seeds(n))
    return noncentrality(_freedom(n, paired), _level(alpha), _target(target)) * _positive(sd, "sd") / root


def seeds_needed(
    difference: float, sd: float, *, alpha: Level = ALPHA, target: float = POWER, paired: bool = True
) -> int | None:
    """Return the fewest seeds per arm that detect a true difference with the power ``target``.

    None where 10,000 seeds are not enough, such as for a difference of 0. ``alpha`` may depend on the number of seeds;
    a level of 0 is no test.

    Raises:
        InputError: an argument is out of its range.
    """
    _target(target)
    level = _levels(alpha)
    return _fewest(lambda n: level(n) > 0 and power(difference, sd, n, alpha=level(n), paired=paired) >= target)


def equivalence_power(margin: float, sd: float, n: int, *, alpha: float = ALPHA, paired: bool = True) -> float:
    """Return the probability that two one-sided t tests show equivalence within ``margin`` if the true difference is 0.

    Raises:
        InputError: an argument is out of its range.
    """
    df = _freedom(_seeds(n), paired)
    reach = _positive(margin, "margin") * math.sqrt(n) / _positive(sd, "sd")
    shares, ratios = _sample_sds(df)
    room = np.maximum(reach - float(special.stdtrit(df, 1 - _level(alpha))) * ratios, 0.0)
    return float(shares @ (2 * special.ndtr(room) - 1))


def seeds_for_equivalence(
    margin: float, sd: float, *, alpha: Level = ALPHA, target: float = POWER, paired: bool = True
) -> int | None:
    """Return the fewest seeds per arm that show equivalence with the power ``target`` if the true difference is 0.

    None where 10,000 seeds are not enough. ``alpha`` may depend on the number of seeds; a level of 0 is no test.

    Raises:
        InputError: an argument is out of its range.
    """
    _target(target)
    level = _levels(alpha)
    return _fewest(lambda n: level(n) > 0 and equivalence_power(margin, sd, n, alpha=level(n), paired=paired) >= target)


@lru_cache(maxsize=4096)
def noncentrality(df: float, alpha: float = ALPHA, target: float = POWER) -> float:
    """Return the true difference, in standard errors, that a two-sided t test detects with the power ``target``."""
    highest = float(special.stdtrit(df, 1 - alpha / 2)) + 10.0
    while _power(highest, df, alpha) < target:
        highest *= 2
    return float(optimize.brentq(lambda effect: _power(effect, df, alpha) - target, 0.0, highest, xtol=1e-10))


def _power(effect: float, df: float, alpha: float) -> float:
    """Return the power for an effect in standard errors.

    The other tail, in which the difference is detected with the wrong sign, is left out. This tail is below 1e-5 where
    the power is at least one half. SciPy's noncentral t fails for some large effects. For large effects the chi of the
    sample's sd is averaged over the normal part, which is smooth wherever a large effect can be missed.
    """
    critical = float(special.stdtrit(df, 1 - alpha / 2))
    if effect <= LARGE_EFFECT:
        return 1.0 - float(special.nctdtr(df, effect, critical))
    nodes, weights = legendre(64)
    shift = 9 * nodes
    shares = 9 * weights * np.exp(-(shift**2) / 2) / math.sqrt(2 * math.pi)
    ratio = np.minimum((effect + shift) / critical, 1e6)
    return min(1.0, float(shares @ special.chdtr(df, df * ratio**2)))


@lru_cache(maxsize=4096)
def _sample_sds(df: float) -> tuple[np.ndarray, np.ndarray]:
    """Return weights that sum to 1, and for each weight the ratio of the sample's sd to the true sd."""
    nodes, weights = legendre(128)
    return weights / 2, np.sqrt(special.chdtri(df, (1 - nodes) / 2) / df)


@lru_cache(maxsize=64)
def legendre(points: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the nodes and weights of Gauss and Legendre's quadrature on [-1, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(points)
    return nodes, weights


def _fewest(enough: Callable[[int], bool]) -> int | None:
    """Return the smallest n >= 2 that is enough, by doubling and bisection; a larger n is always enough, too."""
    high = 2
    while not enough(high):
        if high >= MOST_SEEDS:
            return None
        high = min(2 * high, MOST_SEEDS)
    low = max(high // 2, 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _levels(alpha: Level) -> Callable[[int], float]:
    return alpha if callable(alpha) else lambda n: alpha


def _freedom(n: int, paired: bool) -> float:
    return float(n - 1) if paired else 2.0 * (n - 1)


def _positive(value: float, name: str) -> float:
    if not 0 < value < math.inf:
        raise InputError(f"{name}: must be a positive finite number, got {value}")
    return value


def _seeds(n: int) -> int:
    if n < 2:
        raise InputError(f"n: a test needs at least 2 seeds per arm, got {n}")
    return n


def _level(alpha: float) -> float:
    if not 0 < alpha < 1:
        raise InputError(f"alpha: a level lies between 0 and 1, got {alpha}")
    return alpha


def _target(target: float) -> float:
    if not 0.5 <= target < 1:
        raise InputError(f"target: a power to plan for lies from 0.5 to below 1, got {target}")
    return target
