"""O'Brien and Fleming's boundaries of interim analyses, which runs of earlier versions declared.

The boundaries are strict at the early analyses and leave nearly the full 0.05 for the last one. On the scale of
Brownian motion, which a mean of differences follows, the boundaries are one constant barrier. The barrier is computed
by exact numerical integration. The boundaries assume a known variance. Here the p of a t test is compared with the
normal tail of the boundary (Pocock's significance-level approach). For analyses at 5, 10 and 18 seeds this gives an
overall level of 0.0512 instead of 0.05 (four million simulations).

Each p is converted to a repeated p: the smallest overall level at which this analysis would have stopped. The smallest
repeated p of all analyses so far is itself a valid p. The p of TOST is converted in the same way, one-sided.

Sources: O'Brien and Fleming 1979; Pocock 1977; Lan and DeMets 1983 (the alpha spent); Armitage, McPherson and Rowe 1969
(the integration); Jennison and Turnbull 2000, chapter 9 (repeated p values and intervals).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import optimize, special

from tskd_tune.errors import InputError
from tskd_tune.reports.judge import power
from tskd_tune.reports.judge.records import LEAST_SEEDS
from tskd_tune.reports.judge.words import listed

# A path of Brownian motion up to time 1 is farther from zero with probability below 1e-18.
FARTHEST = 9.0


@dataclass(frozen=True)
class Boundaries:
    """The two-sided boundaries of declared interim analyses.

    ``interim`` are numbers of seeds. For each analysis, ``z`` is the boundary of the test statistic and ``nominal`` is
    the two-sided p of ``z``. ``spent`` is the probability that a true difference of 0 has crossed a boundary by this
    analysis; at the last analysis ``spent`` is ``alpha``.
    """

    interim: tuple[int, ...]
    alpha: float
    z: tuple[float, ...]
    nominal: tuple[float, ...]
    spent: tuple[float, ...]


def obrien_fleming(interim: Sequence[int], *, alpha: float = power.ALPHA) -> Boundaries:
    """Return the boundaries of interim analyses at these numbers of seeds.

    Raises:
        InputError: the numbers do not ascend, the first is below five, or alpha is no level.
    """
    if not 0 < alpha < 1:
        raise InputError(f"alpha: a level lies between 0 and 1, got {alpha}")
    return _boundaries(checked(interim), alpha)


def repeated_p(p: float, at: int, interim: Sequence[int], *, two_sided: bool = True) -> float:
    """Return the smallest overall level at which an analysis with this p would have stopped.

    Args:
        p: the p of the data up to this analysis, two-sided or one-sided.
        at: the number of seeds of the analysis.
        interim: the numbers of seeds of all declared analyses.
        two_sided: whether p and the boundary are two-sided.

    Raises:
        InputError: p is no probability, the declared numbers are wrong, or ``at`` is none of them.
    """
    if not 0 <= p <= 1:
        raise InputError(f"p: a probability lies between 0 and 1, got {p}")
    declared = checked(interim)
    time = declared[index_of(at, declared)] / declared[-1]
    z = -float(special.ndtri(p / 2 if two_sided else p))
    return min(1.0, _crossing(_times(declared), z * math.sqrt(time), two_sided=two_sided)[-1])


# Boundaries


@lru_cache(maxsize=256)
def _boundaries(interim: tuple[int, ...], alpha: float) -> Boundaries:
    times = _times(interim)
    # The barrier is between two ends. The lower end is exact for a single analysis. The upper end, where each analysis
    # has an equal part of alpha, is too strict for several.
    low, high = (-float(special.ndtri(alpha / parts / 2)) for parts in (1, len(interim)))
    barrier = high
    if len(interim) > 1:
        barrier = optimize.brentq(lambda at: _crossing(times, at)[-1] - alpha, low, high, xtol=1e-12)
    z = tuple(float(barrier / math.sqrt(time)) for time in times)
    nominal = tuple(2 * float(special.ndtr(-value)) for value in z)
    return Boundaries(interim, alpha, z, nominal, _crossing(times, barrier))


def _crossing(times: Sequence[float], barrier: float, *, two_sided: bool = True) -> tuple[float, ...]:
    """Return for each time the probability that Brownian motion was outside the barriers at this or an earlier time.

    The barriers are ``barrier`` and, if two-sided, also ``-barrier``. The density of the paths that have not crossed is
    computed from analysis to analysis on the nodes of a quadrature. The probabilities of crossing at each analysis are
    added, so small probabilities stay accurate.
    """
    low, high = -min(barrier, FARTHEST) if two_sided else -FARTHEST, min(barrier, FARTHEST)
    if high <= low:
        return (1.0,) * len(times)
    steps = [math.sqrt(after - before) for before, after in zip((0.0, *times), times, strict=False)]
    nodes, weights = power.legendre(_nodes(high - low, min(steps)))
    at = low + (high - low) * (nodes + 1) / 2
    shares = weights * (high - low) / 2

    def beyond(start: np.ndarray, step: float) -> np.ndarray:
        above: np.ndarray = special.ndtr((start - barrier) / step)
        below: np.ndarray = special.ndtr((-barrier - start) / step)
        return above + below if two_sided else above

    crossed = [float(beyond(np.zeros(1), steps[0])[0])]
    density = _normal(at, steps[0])
    for index, step in enumerate(steps[1:], 2):
        crossed.append(crossed[-1] + float(shares @ (density * beyond(at, step))))
        if index < len(steps):
            density = _normal(at[:, None] - at[None, :], step) @ (shares * density)
    return tuple(crossed)


def _normal(at: np.ndarray, sd: float) -> np.ndarray:
    density: np.ndarray = np.exp(-0.5 * (at / sd) ** 2) / (sd * math.sqrt(2 * math.pi))
    return density


def _nodes(width: float, narrowest: float) -> int:
    """Return the number of nodes that the narrowest step needs, as a power of two, so few quadratures are computed."""
    return int(max(64, 2 ** math.ceil(math.log2(3 * width / narrowest))))


def _times(interim: Sequence[int]) -> tuple[float, ...]:
    return tuple(at / interim[-1] for at in interim)


def checked(interim: Sequence[int]) -> tuple[int, ...]:
    """Return declared numbers of seeds, if they ascend from five on.

    Raises:
        InputError: they do not.
    """
    ascending = all(before < after for before, after in itertools.pairwise(interim))
    if not interim or interim[0] < LEAST_SEEDS or not ascending:
        raise InputError(
            f"interim: must be ascending numbers of seeds from {LEAST_SEEDS} on, such as [5, 10, 18], got"
            f" {list(interim)}"
        )
    return tuple(interim)


def index_of(at: int, interim: Sequence[int]) -> int:
    """Return the place of an analysis among the declared ones.

    Raises:
        InputError: it is none of them.
    """
    if at not in interim:
        raise InputError(f"at: no interim analysis was declared at {at} seeds; declared: {listed(interim)}")
    return interim.index(at)
