"""Plans further seeds: how many a comparison needs, and what a table can detect, with the measured spread uncertain.

A standard deviation from few seeds is uncertain. A plan with the measured one keeps 80 % power in 67 to 74 % of new
tables only. A plan with its upper 80 % limit keeps it in at least 80 %.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from scipy import special

from tskd_tune.reports.judge import power
from tskd_tune.reports.judge.contrasts import Contrast
from tskd_tune.reports.judge.protocol import FIXED, Protocol
from tskd_tune.reports.judge.records import LEAST_SEEDS, Needed, Visible

LIMIT = 0.8
SMALLEST_LEVEL = 1e-12


def upper_sd(sd: float, df: float) -> float:
    """Return the upper 80 % limit of a standard deviation with these degrees of freedom.

    >>> round(upper_sd(1.0, 4), 2)
    1.56
    """
    return sd * math.sqrt(df / float(special.chdtri(df, LIMIT)))


def needed(item: Contrast, size: int, protocol: Protocol) -> Needed | None:
    """Return the seeds that decide a contrast of a family of this size.

    None where its differences do not vary, for unpaired arms that are tested once, at the first verdict, and under
    several teachers, because more seeds do not reduce the variance between teachers.
    """
    if (
        item.teachers is not None
        or not item.sd
        or item.difference is None
        or not item.df
        or (protocol.design and not item.paired)
    ):
        return None
    level, sds = protocol.level(power.ALPHA / size), (item.sd, upper_sd(item.sd, item.df))
    outside = item.margin is None or abs(item.difference) >= item.margin
    shown = abs(item.difference)
    if protocol.by == "margin" and item.margin is not None:
        shown = shown - item.margin if outside else 0.0
    resolve = [power.seeds_needed(shown, sd, alpha=level, paired=item.paired) for sd in sds]
    found = (resolve[0], resolve[1]) if shown else None
    if item.margin is None or outside:
        return Needed(found, None)
    one_sided = _one_sided(level, protocol)
    low, high = (power.seeds_for_equivalence(item.margin, sd, alpha=one_sided, paired=item.paired) for sd in sds)
    return Needed(found, (low, high))


def _one_sided(level: Callable[[int], float], protocol: Protocol) -> Callable[[int], float]:
    """Return the level of each of both one-sided tests: a fixed TOST has the whole level on each side."""
    return level if protocol.design is None and protocol.by == "difference" else lambda n: level(n) / 2


def visible(found: Sequence[Contrast], protocol: Protocol) -> Visible | None:
    """Return the smallest differences that a table detects; None where no difference varies over its seeds.

    Contrasts under several teachers are left out: what they detect depends on the variance between teachers, which two
    or three teachers do not tell.
    """
    known = [item for item in found if item.teachers is None]
    spreading = [item for item in known if item.spread == "measured" and item.sd and item.df]
    spreading = [item for item in spreading if item.n >= LEAST_SEEDS] or spreading
    if not spreading:
        return None
    own, fixed = ([smallest(item, len(found), each) for item in spreading] for each in (protocol, FIXED))
    sds = [item.sd or 0.0 for item in spreading]
    return Visible(
        n=min(item.n for item in spreading),
        contrasts=len(spreading),
        paired=any(item.paired for item in spreading),
        smallest=min(own),
        largest=max(own),
        fixed_smallest=min(fixed),
        fixed_largest=max(fixed),
        sd_low=min(sds),
        sd_high=max(sds),
    )


def smallest(item: Contrast, size: int, protocol: Protocol) -> float:
    """Return the smallest difference that a contrast of a family of this size detects with at least 80 % power.

    The contrast has a standard deviation, which is not 0.
    """
    assert item.sd and item.df
    # A level of 0, of a table with hundreds of comparisons and five seeds, would need an infinite difference.
    level = max(protocol.level(power.ALPHA / size)(item.n), SMALLEST_LEVEL)
    return power.smallest_difference(upper_sd(item.sd, item.df), item.n, alpha=level, paired=item.paired)
