"""Interim analyses: tests of a table before all seeds are trained, declared before the run and corrected for.

An interim analysis is given by its number of seeds, such as 5, 10 or 18. O'Brien and Fleming's boundaries are strict at
the early analyses and leave nearly the full 0.05 for the last one. On the scale of Brownian motion, which a mean of
differences follows, the boundaries are one constant barrier. The barrier is computed by exact numerical integration.
The boundaries assume a known variance. Here the p of a t test is compared with the normal tail of the boundary
(Pocock's significance-level approach). For analyses at 5, 10 and 18 seeds this gives an overall level of 0.0512 instead
of 0.05 (four million simulations).

Each p is converted to a repeated p: the smallest overall level at which this analysis would have stopped. The smallest
repeated p of all analyses so far is itself a valid p, so Holm over the family is valid at every analysis. The p of TOST
is converted in the same way, one-sided.

Sources: O'Brien and Fleming 1979; Pocock 1977; Lan and DeMets 1983 (the alpha spent); Armitage, McPherson and Rowe 1969
(the integration); Jennison and Turnbull 2000, chapter 9 (repeated p values and intervals); Ye, Li, Liu and Yao 2013
(Holm with interim analyses).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import optimize, special

from tskd_tune.errors import InputError
from tskd_tune.metrics import Metric
from tskd_tune.reports.judge import power
from tskd_tune.reports.judge.contrasts import MARGIN, Contrast
from tskd_tune.reports.judge.records import LEAST_SEEDS, Evidence, Family
from tskd_tune.reports.judge.values import Values
from tskd_tune.reports.judge.verdicts import contrasts, judge
from tskd_tune.reports.judge.words import POINTS, count

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


@dataclass(frozen=True)
class Analysis:
    """The result of one interim analysis: the verdicts from repeated p values, and whether to stop.

    ``stop`` is true where every contrast is resolved or equivalent, and at the last analysis. ``next_seeds`` are the
    seeds to train before the next analysis; empty where ``stop`` is true. ``alpha_spent`` is the part of alpha that the
    analyses so far have spent. The findings' intervals are repeated intervals, at the level of this analysis's
    boundary. They are valid at all analyses together.
    """

    at: int
    number: int
    boundaries: Boundaries
    alpha_spent: float
    family: Family
    stop: bool
    next_seeds: tuple[int, ...]
    sentence: str


def obrien_fleming(interim: Sequence[int], *, alpha: float = power.ALPHA) -> Boundaries:
    """Return the boundaries of interim analyses at these numbers of seeds.

    Raises:
        InputError: the numbers do not ascend, the first is below five, or alpha is no level.
    """
    if not 0 < alpha < 1:
        raise InputError(f"alpha: a level lies between 0 and 1, got {alpha}")
    return _boundaries(_checked(interim), alpha)


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
    declared = _checked(interim)
    time = declared[_index(at, declared)] / declared[-1]
    z = -float(special.ndtri(p / 2 if two_sided else p))
    return min(1.0, _crossing(_times(declared), z * math.sqrt(time), two_sided=two_sided)[-1])


def analysis(
    arms: Mapping[str, Values],
    pairs: Sequence[tuple[str, str]],
    *,
    seeds: Sequence[int],
    interim: Sequence[int],
    at: int,
    margin: float | None = MARGIN,
    metric: Metric = POINTS,
) -> Analysis:
    """Test a family at a declared interim analysis, with the first ``at`` seeds, and decide whether to stop.

    An analysis is due when all runs of these seeds have ended. A seed that failed is missing from its contrasts, and
    the number of seeds of these contrasts is smaller. The boundaries stay as declared. Arms without a common seed are
    not tested.

    Args:
        arms: name -> seed -> value, in points; seeds after those of this analysis are not used.
        pairs: the declared family: (arm, baseline) for each contrast.
        seeds: all declared seeds, in the order of training.
        interim: the numbers of seeds of all declared analyses; the last is at most the number of seeds.
        at: the number of seeds of this analysis.
        margin: differences within plus or minus the margin count as equivalent; None tests no equivalence.
        metric: the metric of the values; differences and margin have the unit of this metric.

    Raises:
        InputError: the declared numbers, the seeds, a name or a value is wrong.
    """
    boundaries = obrien_fleming(interim)
    index = _index(at, boundaries.interim)
    _check_seeds(seeds, boundaries.interim)
    history = [
        contrasts({name: _first(values, seeds[:taken]) for name, values in arms.items()}, pairs, margin=margin)
        for taken in boundaries.interim[: index + 1]
    ]
    evidence = [_evidence(path, boundaries) for path in zip(*history, strict=True)]
    found = judge(history[-1], evidence, metric=metric)
    decided = all(finding.verdict in ("resolved", "equivalent") for finding in found.findings)
    last = index + 1 == len(boundaries.interim)
    return Analysis(
        at=at,
        number=index + 1,
        boundaries=boundaries,
        alpha_spent=boundaries.spent[index],
        family=found,
        stop=decided or last,
        next_seeds=() if decided or last else tuple(seeds[at : boundaries.interim[index + 1]]),
        sentence=_said(found, boundaries, index, decided),
    )


def _evidence(path: Sequence[Contrast], boundaries: Boundaries) -> Evidence:
    """Return the smallest repeated p values of a contrast over its analyses so far, and its repeated interval."""
    tested = [(item, at) for item, at in zip(path, boundaries.interim, strict=False) if _testable(item)]
    interim = boundaries.interim
    p_values = [repeated_p(item.p, at, interim) for item, at in tested if item.p is not None]
    tost = [repeated_p(item.tost_p, at, interim, two_sided=False) for item, at in tested if item.tost_p is not None]
    level = 1 - boundaries.nominal[len(path) - 1]
    adjusted = f", adjusted for {len(interim)} interim analyses" if len(interim) > 1 else ""
    return Evidence(min(p_values, default=None), min(tost, default=None), path[-1].interval_at(level), adjusted)


def _testable(item: Contrast) -> bool:
    return item.paired and item.n >= LEAST_SEEDS


def _first(values: Values, seeds: Sequence[int]) -> dict[int, float]:
    return {seed: values[seed] for seed in seeds if seed in values}


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


def _checked(interim: Sequence[int]) -> tuple[int, ...]:
    ascending = all(before < after for before, after in itertools.pairwise(interim))
    if not interim or interim[0] < LEAST_SEEDS or not ascending:
        raise InputError(
            f"interim: must be ascending numbers of seeds from {LEAST_SEEDS} on, such as [5, 10, 18], got"
            f" {list(interim)}"
        )
    return tuple(interim)


def _check_seeds(seeds: Sequence[int], interim: Sequence[int]) -> None:
    if len(set(seeds)) != len(seeds):
        raise InputError(f"seeds: each must be given once, got {list(seeds)}")
    if len(seeds) < interim[-1]:
        raise InputError(
            f"interim: the last analysis is at {interim[-1]} seeds, but {len(seeds)} seeds are declared; add seeds, or"
            " lower the last number"
        )


def _index(at: int, interim: Sequence[int]) -> int:
    if at not in interim:
        raise InputError(f"at: no interim analysis was declared at {at} seeds; declared: {_listed(interim)}")
    return interim.index(at)


# Words


def _said(found: Family, boundaries: Boundaries, index: int, decided: bool) -> str:
    interim = boundaries.interim
    open_ = sum(finding.verdict not in ("resolved", "equivalent") for finding in found.findings)
    of = f"{open_} of {count(len(found.findings), 'comparison')}"
    if decided:
        what = "stop: every comparison has its verdict"
    elif index + 1 == len(interim):
        what = f"stop: this is the last interim analysis, {of} without a decision"
    else:
        what = f"go on to {interim[index + 1]} seeds: {of} without a decision"
    return (
        f"Interim analysis {index + 1} of {len(interim)}, at {interim[index]} of {interim[-1]} seeds: {what}. "
        f"A single comparison is resolved here at p <= {boundaries.nominal[index]:.2g}; "
        f"{boundaries.spent[index]:.2g} of the overall alpha of {boundaries.alpha:g} is spent."
    )


def _listed(interim: Sequence[int]) -> str:
    return " and ".join(filter(None, [", ".join(map(str, interim[:-1])), str(interim[-1])]))
