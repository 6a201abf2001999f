"""Summarizes one method over several teacher-student pairs, in addition to the verdict on each pair.

Wins are not counted. The mean difference and its interval come from a random-effects model, in which the effect may
differ between pairs: tau by Paule and Mandel, and Student's t with (number of pairs - 1) degrees of freedom. This
interval is the one of Hartung, Knapp, Sidik and Jonkman, never narrower than the interval without their scale.
Stouffer's z tests whether the method has any effect in these pairs. Pairs have the same seed numbers but different
networks, so they count as independent.

Sources: Paule and Mandel 1982; IntHout, Ioannidis and Borm 2014; Stouffer et al. 1949; all computed by statsmodels and
scipy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats
from statsmodels.stats.meta_analysis import combine_effects

from tskd_tune.metrics import Metric
from tskd_tune.reports.judge.contrasts import Contrast
from tskd_tune.reports.judge.records import LEAST_SEEDS
from tskd_tune.reports.judge.values import LEVEL, Interval
from tskd_tune.reports.judge.verdicts import holm_of_known
from tskd_tune.reports.judge.words import POINTS, difference_text, p_text, signed

Members = Mapping[str, Sequence[Contrast]]
"""Method and its baseline, in words -> its contrast in each pair."""


@dataclass(frozen=True)
class Pooled:
    """One method against one baseline, over pairs.

    ``difference`` and ``interval`` are of the mean over pairs, in the metric's unit. ``tau`` is the standard deviation
    between pairs, without the noise of seeds. ``p`` is the two-sided p of Stouffer's z. ``holm_p`` is ``p`` adjusted by
    Holm over the summarized methods. Values that need a standard deviation in every pair are None where a pair has
    none. The p values are None where a pair has fewer than five common seeds.
    """

    method: str
    contrasts: tuple[tuple[str, str], ...]
    difference: float
    interval: Interval | None
    tau: float | None
    z: float | None
    p: float | None
    holm_p: float | None = None
    sentence: str = ""


def pooled(members: Members, metric: Metric = POINTS) -> list[Pooled]:
    """Summarize every method that was compared in two or more pairs, without contrasts that have no difference."""
    known = {name: [item for item in found if item.difference is not None] for name, found in members.items()}
    made = [_pooled(name, found) for name, found in known.items() if len(found) > 1]
    adjusted = holm_of_known([one.p for one in made])
    made = [replace(one, holm_p=p) for one, p in zip(made, adjusted, strict=True)]
    return [replace(one, sentence=_sentence(one, metric)) for one in made]


def _pooled(method: str, found: Sequence[Contrast]) -> Pooled:
    names = tuple((item.arm, item.baseline) for item in found)
    differences = np.array([item.difference for item in found], float)
    errors = np.array([item.se for item in found], float)
    if not all(item.se and item.df for item in found):
        return Pooled(method, names, float(differences.mean()), None, None, None, None)
    with np.errstate(divide="ignore"):  # in an unused output, where all pairs have the same difference
        model = combine_effects(differences, errors**2, method_re="iterated", use_t=True)
    low, high = model.conf_int(alpha=1 - LEVEL)[1]
    z, p = _stouffer(found) if min(item.n for item in found) >= LEAST_SEEDS else (None, None)
    return Pooled(
        method,
        names,
        float(model.mean_effect_re),
        Interval(float(low), float(high), LEVEL, "t"),
        math.sqrt(max(0.0, float(model.tau2))),
        z,
        p,
    )


def _stouffer(found: Sequence[Contrast]) -> tuple[float, float]:
    """Combine the one-sided p values of the pairs with equal weights; return z and its two-sided p."""
    upper = [
        stats.t.sf(item.difference / item.se, item.df) for item in found if item.difference is not None and item.se
    ]
    z = float(stats.combine_pvalues(upper, method="stouffer").statistic)
    return z, float(2 * stats.norm.sf(abs(z)))


# Words


def _sentence(one: Pooled, metric: Metric) -> str:
    """Return ``kd against ce, over 5 pairs: +1.20 points on average (...)``, without a verdict."""
    head = f"{one.method}, over {len(one.contrasts)} pairs: {difference_text(one.difference, metric)} on average"
    if one.interval is None or one.tau is None:
        return f"{head} (no interval: in one of the pairs the differences do not vary over seeds)."
    spread = f"95 % interval {signed(one.interval.low, metric)} to {signed(one.interval.high, metric)}, random effects"
    between = f"standard deviation between pairs {one.tau:.{metric.digits}f} in addition to the variation over seeds"
    if one.z is None or one.holm_p is None:
        return f"{head} ({spread}; {between}; a pair has fewer than {LEAST_SEEDS} seeds, so nothing is tested)."
    tested = f"Stouffer's z {one.z:+.2f}, Holm-adjusted {p_text(one.holm_p)}"
    return f"{head} ({spread}; {between}; {tested})."
