"""The worst case of failed seeds: a verdict is given only if it stands whatever the failed seeds would have shown.

Failures may hit the bad seeds of an arm. Then the seeds that are left look better than the arm is. So the k failed
pairs of n are put at the worst difference seen against the claim, minus one standard deviation (1.25 in a family of
several comparisons). The t statistic is computed over all n pairs, and is held against the critical value of the n - k
pairs that were seen. Where more than a quarter has failed, nothing is decided.

The rule is applied to any test of paired differences, also to a path of tests: the differences that were seen are moved
by a constant so that their t statistic is that of the worst case, and are tested again (`moved_by`).

Measured with 20,000 tables a cell, normal noise, the k lowest of n differences failing: false "resolved" 4.5 % (n 5, k
1), 4.3 % (n 8, k 2), 3.2 % (n 10, k 2), where dropping the failed seeds gives 9.4 %, 19.4 % and 19.5 %.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

MOST_FAILED = 0.25
"""The largest share of failed pairs with which a contrast can be decided."""

ALONE, IN_FAMILY = 1.0, 1.25
"""Standard deviations beyond the worst difference seen: of a single comparison, and in a family of several."""


def moved_by(differences: Sequence[float], failed: int, *, center: float, side: int, family_size: int) -> float:
    """Return by how much the differences must be moved to show no more than the worst case of the failed pairs shows.

    The claim is that the mean difference is above ``center`` (``side`` 1) or below it (``side`` -1). A worst case
    against the claim moves the mean to ``center``, where nothing is shown.

    >>> round(moved_by([1.0, 1.2, 0.9, 1.1, 1.3, 0.8], 1, center=0.0, side=1, family_size=1), 4)
    -0.2101

    Args:
        differences: the n - k differences that were seen; at least two, not all equal.
        failed: the number of failed pairs, k; at least one.
        center: the end of the claim.
        side: the direction of the claim.
        family_size: the number of comparisons in the table.
    """
    claimed = [side * (value - center) for value in differences]
    sd = statistics.stdev(claimed)
    worst = side * (worst_difference(differences, side, family_size) - center)
    everyone = [*claimed, *[worst] * failed]
    t = statistics.fmean(everyone) / statistics.stdev(everyone) * math.sqrt(len(everyone))
    mean = max(t, 0.0) * sd / math.sqrt(len(claimed))
    return side * (mean - statistics.fmean(claimed))


def are_too_many(failed: int, seen: int) -> bool:
    """Tell whether more than a quarter of the pairs has failed."""
    return failed > MOST_FAILED * (failed + seen)


def worst_difference(differences: Sequence[float], side: int, family_size: int) -> float:
    """Return the difference at which a failed pair is put for a claim in the direction ``side``."""
    claimed = [side * value for value in differences]
    return side * (min(claimed) - (ALONE if family_size == 1 else IN_FAMILY) * statistics.stdev(claimed))
