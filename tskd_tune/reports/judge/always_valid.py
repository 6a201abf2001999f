"""Tests of paired differences that stay valid when seeds are added: the scale-invariant mixture t and its bounds.

The differences are independent and normal with an unknown standard deviation. With the right Haar prior on the standard
deviation and a N(0, g) prior on the mean in standard deviations, the Bayes factor of the t statistic is a test
martingale: without a difference, the probability that it ever reaches a is at most 1/a. Its value after n pairs, with
r = 1 + n g and v = n - 1:

    log E = -1/2 log r + (n/2) (log(1 + t^2/v) - log(1 + t^2/(v r)))

Two designs use it:

- `Split` tests at the first verdict, at n1 seeds, with a t test at 60 % of alpha. The other 40 % are spent on all later
  numbers of seeds together: E may reach a at any of them. Under the mixture, t / sqrt(r) is t distributed, so Ville's
  inequality, started at n1, gives a in closed form. The number of later tests does not matter.
- `Looks` tests at declared numbers of seeds only. Without a difference, sum / sqrt(sum of squares) is a Markov chain in
  one dimension, so the probability of crossing is computed by quadrature, and the bounds use the whole of alpha.

Sources: Lai 1976; Robbins 1970; Wang and Ramdas, arXiv 2310.03722, theorem 4.9 with c^2 = 1/g (the martingale); Ville
1939; Grünwald, de Heide and Koolen 2024 (stopping at any time).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import optimize, special

from tskd_tune.errors import InputError

MIXTURE = 8.0
"""The prior variance of the mean in standard deviations, g. From 4 to 16 the power changes by at most 3 points."""

FIRST_SHARE = 0.6
"""The part of alpha that `Split` spends at the first verdict."""

CELLS = 300
TINY = 1e-300


def log_e(t: float, n: int) -> float:
    """Return the logarithm of the e-value of a t statistic over n pairs; 0 for one pair, which shows nothing.

    >>> round(log_e(3.0, 5), 3)
    0.956
    """
    r, ratio = 1 + n * MIXTURE, n - 1
    if n < 2:
        return 0.0
    if math.isinf(t):
        return 0.5 * (n - 1) * math.log(r)
    square = t * t / ratio
    return -0.5 * math.log(r) + n / 2 * (math.log1p(square) - math.log1p(square / r))


def t_bound(log_a: float, n: int) -> float:
    """Return the size of the t statistic over n pairs at which the e-value is a; infinite where no t has it."""
    r = 1 + n * MIXTURE
    exponent = (2 * log_a + math.log(r)) / n
    if n < 2 or exponent >= math.log(r):
        return math.inf
    grown = math.exp(exponent)
    return math.sqrt((n - 1) * max(grown - 1, 0.0) / (1 - grown / r))


def two_sided(t: float, n: int) -> float:
    """Return the two-sided p of the t test with n pairs."""
    return float(2 * special.stdtr(n - 1, -abs(t)))


def critical(alpha: float, n: int) -> float:
    """Return the size of the t statistic with n pairs whose two-sided p is alpha."""
    return -float(special.stdtrit(n - 1, alpha / 2))


class Design(ABC):
    """The numbers of seeds at which one path of paired differences is tested, with one error rate for all of them."""

    @abstractmethod
    def bound(self, n: int, alpha: float) -> float:
        """Return the size that the t statistic must reach with n pairs; infinite where no test is made."""

    @abstractmethod
    def p(self, path: Sequence[tuple[int, float]]) -> float:
        """Return the smallest alpha at which a path would have crossed a bound; 1 for an empty path.

        Args:
            path: the number of pairs and the t statistic of each test so far.
        """

    @abstractmethod
    def flat_p(self, n: int, sides: int = 2) -> float:
        """Return the p of n pairs with the same difference, which have no t statistic: a test of their signs."""

    def level(self, n: int, alpha: float) -> float:
        """Return the two-sided level of the t test with n pairs that has this design's bound; 0 without a test."""
        return two_sided(self.bound(n, alpha), n)


@dataclass(frozen=True)
class Split(Design):
    """A first verdict at ``first`` pairs, and then a test at every number of pairs, without an end.

    >>> [round(Split(5).bound(n, 0.05), 2) for n in (5, 10, 18, 30)]
    [3.3, 4.07, 3.76, 3.65]
    """

    first: int

    def bound(self, n: int, alpha: float) -> float:
        """Return the bound of the first verdict or of a later number of pairs; infinite before the first verdict."""
        if n < self.first:
            return math.inf
        later = t_bound(self._log_a(alpha), n)
        return min(critical(FIRST_SHARE * alpha, n), later) if n == self.first else later

    def p(self, path: Sequence[tuple[int, float]]) -> float:
        """Return the running p value: the smaller of the first verdict's and that of the largest e-value."""
        tested = [(n, t) for n, t in path if n >= self.first]
        first = [two_sided(t, n) / FIRST_SHARE for n, t in tested if n == self.first]
        largest = max((log_e(t, n) for n, t in tested), default=-math.inf)
        return min(1.0, *first, self._later_p(largest))

    def flat_p(self, n: int, sides: int = 2) -> float:
        """Return the sign flips' p at the first verdict, and later that of the e-value of n equal signs.

        The e-value is the mean likelihood ratio of a sign that is positive with a probability between 0 (one-sided:
        1/2) and 1: two-sided 2^n / (n + 1), one-sided (2^(n+1) - 1) / (n + 1).
        """
        if n < self.first:
            return 1.0
        first = sides * 0.5**n / FIRST_SHARE if n == self.first else 1.0
        e_value = (2.0**n if sides == 2 else 2.0 ** (n + 1) - 1) / (n + 1)
        return min(1.0, first, 1 / e_value / (1 - FIRST_SHARE))

    def _log_a(self, alpha: float) -> float:
        return math.log(self._not_first(alpha) / ((1 - FIRST_SHARE) * alpha))

    def _not_first(self, alpha: float) -> float:
        """Return the probability under the mixture that the first verdict is no rejection."""
        reach = critical(FIRST_SHARE * alpha, self.first) / math.sqrt(1 + self.first * MIXTURE)
        return 1 - two_sided(reach, self.first)

    def _later_p(self, log_largest: float) -> float:
        """Return the alpha whose threshold the largest e-value just reaches; the threshold falls with alpha."""
        if log_largest <= self._log_a(1.0):
            return 1.0
        spent = -math.log(1 - FIRST_SHARE) - log_largest  # log alpha, if the first verdict never rejected
        high = min(0.0, spent)
        if high < math.log(TINY):
            return math.exp(high)
        low = math.log(self._not_first(math.exp(high))) + spent

        def excess(at: float) -> float:
            return self._log_a(math.exp(at)) - log_largest

        # For a tiny alpha the ends differ by less than what rounding changes: then neither has the sign that it should.
        if excess(low) <= 0 or excess(high) >= 0:
            return math.exp(high)
        return math.exp(optimize.brentq(excess, low, high, xtol=1e-12))


@dataclass(frozen=True)
class Looks(Design):
    """Tests at declared numbers of pairs, with bounds of one e-value that are calibrated exactly.

    Where seeds have failed, a test has fewer pairs than declared. The e-value then uses the pairs that there are.

    >>> [round(Looks((5, 10, 18, 30)).bound(n, 0.05), 2) for n in (5, 10, 18, 30)]
    [3.27, 3.02, 2.97, 2.98]
    """

    at: tuple[int, ...]

    def __post_init__(self) -> None:
        """Refuse numbers that do not ascend."""
        if not self.at or self.at[0] < 2 or any(a >= b for a, b in zip(self.at, self.at[1:], strict=False)):
            raise InputError(f"looks: must be ascending numbers of seeds, such as [5, 10, 18], got {list(self.at)}")

    def bound(self, n: int, alpha: float) -> float:
        """Return the bound of a test with n pairs."""
        return t_bound(_calibrated(self.at, alpha), n)

    def p(self, path: Sequence[tuple[int, float]]) -> float:
        """Return the probability, without a difference, that the largest e-value of all looks is as large."""
        largest = max((log_e(t, n) for n, t in path), default=-math.inf)
        return min(1.0, crossing(self.at, [t_bound(largest, n) for n in self.at])) if largest > -math.inf else 1.0

    def flat_p(self, n: int, sides: int = 2) -> float:
        """Return the sign flips' p, times the number of looks."""
        return min(1.0, len(self.at) * sides * 0.5**n)

    def spent(self, alpha: float) -> tuple[float, ...]:
        """Return for each look the probability, without a difference, of a rejection by this look."""
        return crossings(self.at, [self.bound(n, alpha) for n in self.at])


@lru_cache(maxsize=256)
def _calibrated(looks: tuple[int, ...], alpha: float) -> float:
    """Return log a of the e-value that is reached at one of the looks with probability alpha, without a difference."""
    low = max(-0.5 * math.log(1 + n * MIXTURE) for n in looks) + 1e-9

    def excess(log_a: float) -> float:
        # Bounds that no t statistic reaches are crossed with probability 0, whose logarithm does not exist.
        return math.log(max(crossing(looks, [t_bound(log_a, n) for n in looks]), TINY) / alpha)

    return float(optimize.brentq(excess, low, -math.log(alpha) + 1e-6, xtol=1e-9))


# The probability of crossing


def crossing(looks: Sequence[int], bounds: Sequence[float]) -> float:
    """Return the probability, without a difference, that the t statistic reaches a bound at one of the looks."""
    return crossings(looks, bounds)[-1]


def crossings(looks: Sequence[int], bounds: Sequence[float]) -> tuple[float, ...]:
    """Return for each look the probability, without a difference, that a bound was reached at it or before.

    The state after n pairs is v = abs(sum) / sqrt(n sum of squares), from 0 to 1; t^2 = (n - 1) v^2 / (1 - v^2). The
    mass of v is kept in cells. A cell that a bound cuts loses the part beyond the bound.

    Args:
        looks: ascending numbers of pairs, the first at least 2.
        bounds: the size of the t statistic at each look; may be infinite.
    """
    edges = np.linspace(0, 1, CELLS + 1)
    mass, n, crossed, found = _masses(looks[0]), looks[0], 0.0, []
    for place, (look, bound) in enumerate(zip(looks, bounds, strict=True)):
        while n < look:
            mass, n = mass @ _step(n), n + 1
        share = 1 / math.sqrt(1 + (n - 1) / bound**2) if 0 < bound < math.inf else float(bound > 0)
        beyond = np.clip((edges[1:] - share) * CELLS, 0, 1)
        # At the first look the distribution is known.
        crossed += float(mass @ beyond) if place else two_sided(bound, n)
        mass = mass * (1 - beyond)
        found.append(crossed)
    return tuple(found)


def _masses(n: int) -> np.ndarray:
    """Return the probability of each cell of v after n pairs, without a difference."""
    v = np.linspace(0, 1, CELLS + 1)
    with np.errstate(divide="ignore"):
        below = 1 - 2 * special.stdtr(n - 1, -np.sqrt((n - 1) * v**2 / (1 - v**2)))
    return np.asarray(np.diff(below))


@lru_cache(maxsize=128)
def _step(n: int) -> np.ndarray:
    """Return the probabilities of the cells after n + 1 pairs, given the cell after n pairs; ``[CELLS, CELLS]``.

    With u = sum / sqrt(sum of squares), the next u is (u + y) / sqrt(1 + y^2), where sqrt(n) y is t distributed with n
    degrees of freedom. The next abs(u) is at most x where y^2 (1 - x^2) + 2 u y + u^2 - x^2 <= 0: between the roots if
    x is at most 1, and outside of the roots otherwise.
    """
    middles = (np.arange(CELLS) + 0.5) / CELLS
    u = (middles * math.sqrt(n))[:, None]
    x = (np.linspace(0, 1, CELLS + 1) * math.sqrt(n + 1))[None, :]
    root = np.sqrt(np.maximum(u**2 + 1 - x**2, 0))
    q = -(u + x * root)
    with np.errstate(divide="ignore"):
        far, near = q / (1 - x**2), (u**2 - x**2) / q

    def below(y: np.ndarray) -> np.ndarray:
        found: np.ndarray = special.stdtr(n, y * math.sqrt(n))
        return found

    inside = below(near) - below(far) + (x > 1)
    inside = np.where(u**2 + 1 <= x**2, 1.0, inside)
    return np.asarray(np.diff(np.clip(inside, 0, 1), axis=1))
