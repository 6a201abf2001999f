"""The evidence of paired differences that are tested again while seeds are added."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from tskd_tune.reports.judge.always_valid import Design
from tskd_tune.reports.judge.contrasts import Contrast
from tskd_tune.reports.judge.records import LEAST_SEEDS, Evidence
from tskd_tune.reports.judge.values import Interval, Values, tolerance
from tskd_tune.reports.judge.variance_components import WHILE_ADDED, Between, Cells, between, teachers_of


@dataclass(frozen=True)
class Step:
    """The differences of n pairs: their mean and the standard error of this mean, which is 0 for equal differences.

    Under several teachers these are means over teachers, and ``between`` tells how the mean varies over teachers.
    """

    n: int
    mean: float
    se: float
    between: Between | None = None

    def t(self, center: float = 0.0) -> float:
        """Return the t statistic of the hypothesis that the mean is ``center``."""
        return (self.mean - center) / self.se


def steps(mine: Values, theirs: Values, seeds: Sequence[int], cells: Cells | None = None) -> list[Step]:
    """Return the differences after each seed from five pairs on, in the order of the seeds.

    Args:
        mine: seed -> value of the arm.
        theirs: seed -> value of the baseline.
        seeds: the seeds in the order of training; a seed without both values is no pair.
        cells: teacher -> seed -> difference, for arms that were trained under several teachers.
    """
    known = [seed for seed in seeds if seed in mine and seed in theirs]
    pairs = [(mine[seed], theirs[seed]) for seed in known]
    sizes = accumulate((max(map(abs, pair)) for pair in pairs), max)
    differences = [x - y for x, y in pairs]
    found = [_step(differences[:n], tolerance([size])) for n, size in enumerate(sizes, 1) if n >= LEAST_SEEDS]
    if not cells:
        return found
    return [replace(step, between=between(teachers_of(cells, known[: step.n]), WHILE_ADDED)) for step in found]


def step_of(item: Contrast) -> Step | None:
    """Return the differences of a paired contrast; None for unpaired arms and below five pairs."""
    if not item.paired or item.n < LEAST_SEEDS or item.difference is None:
        return None
    return Step(item.n, item.difference, item.se or 0.0, between(item.teachers, WHILE_ADDED))


def _step(differences: Sequence[float], rounding: float) -> Step:
    """Return the mean and its standard error; differences that only rounding can cause are 0."""
    known = [one if abs(one) > rounding else 0.0 for one in differences]
    flat = max(known) - min(known) <= rounding
    n = len(known)
    return Step(n, statistics.fmean(known), 0.0 if flat else statistics.stdev(known) / math.sqrt(n))


def evidence(path: Sequence[Step], design: Design, margin: float | None, alpha: float, adjusted: str) -> Evidence:
    """Return what a path of tests shows.

    The p value is the running p of the tests whose difference has the sign of the last one. So a difference that was
    resolved stays resolved while its sign stays. The interval is the intersection of the intervals of all tests, which
    hold together, widened to contain the last difference.

    Args:
        path: the tests so far, with ascending numbers of pairs.
        design: the bounds of the tests.
        margin: differences within plus or minus the margin count as equivalent; None tests no equivalence.
        alpha: the level of the interval.
        adjusted: what the p values are adjusted for, in words.
    """
    if not path:
        return Evidence(None, None, None, adjusted)
    path = _with_largest(path)
    p = _p([step for step in path if step.mean * path[-1].mean > 0], design, 0.0)
    tost_p = None
    if margin is not None:
        inside = (_p([step for step in path if (end - step.mean) * end > 0], design, end) for end in (-margin, margin))
        tost_p = max(inside)
    return Evidence(p, tost_p, _interval(path, design, alpha), adjusted)


def _p(path: Sequence[Step], design: Design, center: float) -> float:
    """Return the running p of the hypothesis that the mean is ``center``.

    Equal differences have no t statistic. At an end of a margin their sign test is one-sided.
    """
    if path and path[-1].between is not None:
        return min(_p_over_teachers(step, design, center) for step in path)
    sides = 1 if center else 2
    flat = [design.flat_p(step.n, sides) for step in path if not step.se and step.mean != center]
    return min(1.0, design.p([(step.n, step.t(center)) for step in path if step.se]), *flat)


def _p_over_teachers(step: Step, design: Design, center: float) -> float:
    """Return the p of one number of pairs over teachers and seeds, of the hypothesis that the mean is ``center``."""
    assert step.between is not None
    if step.se:
        return step.between.p(step.mean - center, lambda part: design.p([(step.n, part * step.t(center))]))
    if step.mean == center:
        return 1.0
    flat = design.flat_p(step.n, 1 if center else 2)
    return max(flat, step.between.p(step.mean - center, lambda part: float(not part)))


def _with_largest(path: Sequence[Step]) -> list[Step]:
    """Return a path whose standard errors over teachers never fall: each is the largest one so far."""
    largest, found = 0.0, []
    for step in path:
        largest = max(largest, step.between.se if step.between else 0.0)
        found.append(step if step.between is None else replace(step, between=replace(step.between, se=largest)))
    return found


def _half(step: Step, design: Design, alpha: float) -> float:
    """Return half of the width of the interval of one number of pairs."""
    half = design.bound(step.n, alpha) * step.se
    return half if step.between is None else step.between.half(half, alpha)


def _interval(path: Sequence[Step], design: Design, alpha: float) -> Interval | None:
    """Return the values that no test rejects, and the last difference; None where its differences do not vary."""
    last = path[-1]
    if not last.se:
        return None
    halves = [(step.mean, _half(step, design, alpha)) for step in path if step.se]
    low, high = max(mean - half for mean, half in halves), min(mean + half for mean, half in halves)
    ends = (low, high, last.mean) if low <= high else (high, low, last.mean)
    if math.isinf(ends[0]) or math.isinf(ends[1]):
        return None
    return Interval(min(ends[0], last.mean), max(ends[1], last.mean), 1 - alpha, "sequential")


def first_pairs(mine: Values, theirs: Values, seeds: Iterable[int]) -> int:
    """Return the number of pairs of a first verdict at these seeds: at least five."""
    return max(LEAST_SEEDS, sum(seed in mine and seed in theirs for seed in seeds))
