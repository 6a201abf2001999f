"""The evidence of one test over several teachers and a fixed number of seeds, and the teacher's share in words."""

from __future__ import annotations

from dataclasses import replace

from tskd_tune.metrics import Metric
from tskd_tune.reports.judge.always_valid import critical, two_sided
from tskd_tune.reports.judge.contrasts import Contrast
from tskd_tune.reports.judge.records import Evidence, Family, Finding
from tskd_tune.reports.judge.values import LEVEL, Interval
from tskd_tune.reports.judge.variance_components import Teachers, between
from tskd_tune.reports.judge.words import POINTS, signed, unit_of_differences


def adjusted(item: Contrast) -> str:
    """Say that the p values are over teachers too, in words that follow a comma; empty with one teacher."""
    return "" if item.teachers is None else f", over {item.teachers.count} teachers and the seeds"


def over_teachers(item: Contrast, level: float) -> Evidence | None:
    """Return the evidence of a contrast over teachers and seeds; None with one teacher, and without a difference.

    Where the differences do not vary over seeds, the test of their signs stands in for the t test over seeds.

    Args:
        item: the contrast.
        level: the level of the interval.
    """
    found = between(item.teachers)
    if found is None or item.difference is None:
        return None
    flat = not item.se
    interval = None
    if item.se:
        half = found.half(critical(1 - level, item.n) * item.se, 1 - level)
        interval = Interval(item.difference - half, item.difference + half, level, "teachers")

    def p(center: float) -> float:
        distance = (item.difference or 0.0) - center
        if flat:
            return found.p(distance, lambda part: float(not part))
        return found.p(distance, lambda part: two_sided(part * distance / (item.se or 1.0), item.n))

    zero_p = p(0.0) if item.difference else 1.0
    if flat:
        zero_p = max(zero_p, item.sign_flip_p or 0.0)
    tost_p = None
    if item.margin is not None:
        ends = [p(end) / 2 if (end - item.difference) * end > 0 else 1.0 for end in (-item.margin, item.margin)]
        tost_p = max(*ends, item.tost_p or 0.0)
    return Evidence(zero_p, tost_p, interval, adjusted(item))


def with_shares(found: Family, metric: Metric = POINTS) -> Family:
    """Return a family in which the sentence of each contrast under several teachers says the teacher's share."""
    return replace(found, findings=tuple(_with_share(finding, metric) for finding in found.findings))


def _with_share(finding: Finding, metric: Metric) -> Finding:
    of = finding.contrast.teachers
    return finding if of is None else replace(finding, sentence=f"{finding.sentence} {share_text(of, metric)}")


def share_text(of: Teachers, metric: Metric = POINTS) -> str:
    """Say the teacher's share of the variance of a difference, and the mean difference under each teacher."""
    unit = unit_of_differences(metric)
    under = ", ".join(f"{signed(mean, metric)} (teacher {seed})" for seed, mean in zip(of.seeds, of.means, strict=True))
    means = f"The mean difference under each teacher{f' in {unit}' if unit else ''}: {under}."
    if of.share is None or of.share_low is None or of.share_high is None:
        return f"The differences do not vary, neither over teachers nor over seeds. {means}"
    ends = f"{100 * LEVEL:.4g} % interval {100 * of.share_low:.0f} to {100 * of.share_high:.0f} %"
    return f"The teacher's share of the variance of a difference is {100 * of.share:.0f} % ({ends}). {means}"
