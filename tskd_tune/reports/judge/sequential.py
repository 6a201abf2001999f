"""Interim analyses ("looks"): tests of a table before all seeds are trained, declared before the run and corrected for.

A look is a number of seeds, such as 5, 10 and 18. O'Brien and Fleming's boundaries are strict at the early looks and
leave nearly the full 0.05 for the last look. On the scale of Brownian motion, which a mean of differences follows, the
boundaries are one constant barrier. The barrier is computed by exact numerical integration. The boundaries assume a
known variance. Here the p of a t test is compared with the normal tail of the boundary (Pocock's significance-level
approach). For looks at 5, 10 and 18 seeds this gives an overall level of 0.0512 instead of 0.05 (four million
simulations).

Each p is converted to a repeated p: the smallest overall level at which this look would have stopped. The smallest
repeated p of all looks so far is itself a valid p, so Holm over the family is valid at every look. The p of TOST is
converted in the same way, one-sided.

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
    """The two-sided boundaries of declared looks.

    ``looks`` are numbers of seeds. For each look, ``z`` is the boundary of the test statistic and ``nominal`` is the
    two-sided p of ``z``. ``spent`` is the probability that a true difference of 0 has crossed a boundary by this look;
    at the last look ``spent`` is ``alpha``.
    """

    looks: tuple[int, ...]
    alpha: float
    z: tuple[float, ...]
    nominal: tuple[float, ...]
    spent: tuple[float, ...]


@dataclass(frozen=True)
class Look:
    """The result of one look: the verdicts from repeated p values, and whether to stop.

    ``stop`` is true where every contrast is resolved or equivalent, and at the last look. ``next_seeds`` are the seeds
    to train before the next look; empty where ``stop`` is true. ``alpha_spent`` is the part of alpha that the looks so
    far have spent. The findings' intervals are repeated intervals, at the level of this look's boundary. They are valid
    at all looks together.
    """

    at: int
    number: int
    boundaries: Boundaries
    alpha_spent: float
    family: Family
    stop: bool
    next_seeds: tuple[int, ...]
    sentence: str


def obrien_fleming(looks: Sequence[int], *, alpha: float = power.ALPHA) -> Boundaries:
    """Return the boundaries of looks at these numbers of seeds.

    Raises:
        InputError: the looks do not ascend, the first look has fewer than five seeds, or alpha is no level.
    """
    if not 0 < alpha < 1:
        raise InputError(f"alpha: a level lies between 0 and 1, got {alpha}")
    return _boundaries(_checked(looks), alpha)


def repeated_p(p: float, at: int, looks: Sequence[int], *, two_sided: bool = True) -> float:
    """Return the smallest overall level at which a look with this p would have stopped.

    Args:
        p: the p of the data up to this look, two-sided or one-sided.
        at: the look, in seeds.
        looks: all declared looks, in seeds.
        two_sided: whether p and the boundary are two-sided.

    Raises:
        InputError: p is no probability, the looks are wrong, or ``at`` is not a declared look.
    """
    if not 0 <= p <= 1:
        raise InputError(f"p: a probability lies between 0 and 1, got {p}")
    declared = _checked(looks)
    time = declared[_index(at, declared)] / declared[-1]
    z = -float(special.ndtri(p / 2 if two_sided else p))
    return min(1.0, _crossing(_times(declared), z * math.sqrt(time), two_sided=two_sided)[-1])


def look(
    arms: Mapping[str, Values],
    pairs: Sequence[tuple[str, str]],
    *,
    seeds: Sequence[int],
    looks: Sequence[int],
    at: int,
    margin: float | None = MARGIN,
    metric: Metric = POINTS,
) -> Look:
    """Test a family at a declared look, with the first ``at`` seeds, and decide whether to stop.

    A look is due when all runs of these seeds have ended. A seed that failed is missing from its contrasts, and the
    number of seeds of these contrasts is smaller. The boundaries stay as declared. Arms without a common seed are not
    tested.

    Args:
        arms: name -> seed -> value, in points; seeds after this look's seeds are not used.
        pairs: the declared family: (arm, baseline) for each contrast.
        seeds: all declared seeds, in the order of training.
        looks: the declared looks, in seeds; the last is at most the number of seeds.
        at: the number of seeds of this look.
        margin: differences within plus or minus the margin count as equivalent; None tests no equivalence.
        metric: the metric of the values; differences and margin have the unit of this metric.

    Raises:
        InputError: the looks, the seeds, a name or a value is wrong.
    """
    boundaries = obrien_fleming(looks)
    index = _index(at, boundaries.looks)
    _check_seeds(seeds, boundaries.looks)
    history = [
        contrasts({name: _first(values, seeds[:taken]) for name, values in arms.items()}, pairs, margin=margin)
        for taken in boundaries.looks[: index + 1]
    ]
    evidence = [_evidence(path, boundaries) for path in zip(*history, strict=True)]
    found = judge(history[-1], evidence, metric=metric)
    decided = all(finding.verdict in ("resolved", "equivalent") for finding in found.findings)
    last = index + 1 == len(boundaries.looks)
    return Look(
        at=at,
        number=index + 1,
        boundaries=boundaries,
        alpha_spent=boundaries.spent[index],
        family=found,
        stop=decided or last,
        next_seeds=() if decided or last else tuple(seeds[at : boundaries.looks[index + 1]]),
        sentence=_said(found, boundaries, index, decided),
    )


def _evidence(path: Sequence[Contrast], boundaries: Boundaries) -> Evidence:
    """Return the smallest repeated p values of a contrast over its looks so far, and its repeated interval."""
    tested = [(item, at) for item, at in zip(path, boundaries.looks, strict=False) if _testable(item)]
    looks = boundaries.looks
    p_values = [repeated_p(item.p, at, looks) for item, at in tested if item.p is not None]
    tost = [repeated_p(item.tost_p, at, looks, two_sided=False) for item, at in tested if item.tost_p is not None]
    level = 1 - boundaries.nominal[len(path) - 1]
    adjusted = f", adjusted for {len(looks)} interim analyses" if len(looks) > 1 else ""
    return Evidence(min(p_values, default=None), min(tost, default=None), path[-1].interval_at(level), adjusted)


def _testable(item: Contrast) -> bool:
    return item.paired and item.n >= LEAST_SEEDS


def _first(values: Values, seeds: Sequence[int]) -> dict[int, float]:
    return {seed: values[seed] for seed in seeds if seed in values}


# Boundaries


@lru_cache(maxsize=256)
def _boundaries(looks: tuple[int, ...], alpha: float) -> Boundaries:
    times = _times(looks)
    # The barrier is between two ends. The lower end is exact for a single look. The upper end, where each look has an
    # equal part of alpha, is too strict for several looks.
    low, high = (-float(special.ndtri(alpha / parts / 2)) for parts in (1, len(looks)))
    barrier = high
    if len(looks) > 1:
        barrier = optimize.brentq(lambda at: _crossing(times, at)[-1] - alpha, low, high, xtol=1e-12)
    z = tuple(float(barrier / math.sqrt(time)) for time in times)
    nominal = tuple(2 * float(special.ndtr(-value)) for value in z)
    return Boundaries(looks, alpha, z, nominal, _crossing(times, barrier))


def _crossing(times: Sequence[float], barrier: float, *, two_sided: bool = True) -> tuple[float, ...]:
    """Return for each time the probability that Brownian motion was outside the barriers at this or an earlier time.

    The barriers are ``barrier`` and, if two-sided, also ``-barrier``. The density of the paths that have not crossed is
    computed from look to look on the nodes of a quadrature. The probabilities of crossing at each look are added, so
    small probabilities stay accurate.
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


def _times(looks: Sequence[int]) -> tuple[float, ...]:
    return tuple(at / looks[-1] for at in looks)


def _checked(looks: Sequence[int]) -> tuple[int, ...]:
    ascending = all(before < after for before, after in itertools.pairwise(looks))
    if not looks or looks[0] < LEAST_SEEDS or not ascending:
        raise InputError(
            f"looks: must be ascending numbers of seeds from {LEAST_SEEDS} on, such as [5, 10, 18], got {list(looks)}"
        )
    return tuple(looks)


def _check_seeds(seeds: Sequence[int], looks: Sequence[int]) -> None:
    if len(set(seeds)) != len(seeds):
        raise InputError(f"seeds: each must be given once, got {list(seeds)}")
    if len(seeds) < looks[-1]:
        raise InputError(
            f"looks: the last is at {looks[-1]} seeds but {len(seeds)} are declared; add seeds or lower it"
        )


def _index(at: int, looks: Sequence[int]) -> int:
    if at not in looks:
        raise InputError(f"at: no look was declared at {at} seeds; declared: {_listed(looks)}")
    return looks.index(at)


# Words


def _said(found: Family, boundaries: Boundaries, index: int, decided: bool) -> str:
    looks = boundaries.looks
    open_ = sum(finding.verdict not in ("resolved", "equivalent") for finding in found.findings)
    of = f"{open_} of {count(len(found.findings), 'comparison')}"
    if decided:
        what = "stop: every comparison has its verdict"
    elif index + 1 == len(looks):
        what = f"stop: this is the last interim analysis, {of} without a decision"
    else:
        what = f"go on to {looks[index + 1]} seeds: {of} without a decision"
    return (
        f"Interim analysis {index + 1} of {len(looks)}, at {looks[index]} of {looks[-1]} seeds: {what}. "
        f"A single comparison is resolved here at p <= {boundaries.nominal[index]:.2g}; "
        f"{boundaries.spent[index]:.2g} of the overall alpha of {boundaries.alpha:g} is spent."
    )


def _listed(looks: Sequence[int]) -> str:
    return " and ".join(filter(None, [", ".join(map(str, looks[:-1])), str(looks[-1])]))
