"""Tests the differences of one table: Holm's correction over the family, a verdict and a sentence for each contrast.

By the difference: *resolved* where the paired t test's p, adjusted by Holm over the family, is at most 0.05. Otherwise
*equivalent* where two one-sided tests show that the difference is within the margin, at 0.05 over the size of the
family. Otherwise *undecided*. By the margin: *relevantly better*, *relevantly worse* or *equivalent* where the interval
is beyond or within the margin, otherwise *continue*. Below five common seeds there is no verdict, and significance is
not mentioned. A contrast without a test also counts in the family, so the family has the declared size.

The intervals of a family hold together: each has the level of Holm's smallest step. Where Holm's later steps resolve a
contrast whose interval contains 0, the interval is cut at 0. So no verdict contradicts its interval.

Sources: Holm 1979; Schuirmann 1987 (TOST); Strassburger and Bretz 2008 (intervals beside Holm's correction).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from tskd_tune.errors import InputError, did_you_mean
from tskd_tune.metrics import Metric
from tskd_tune.reports.judge import power
from tskd_tune.reports.judge.contrasts import MARGIN, Contrast, contrast
from tskd_tune.reports.judge.planning import needed, visible
from tskd_tune.reports.judge.protocol import FIXED, Protocol
from tskd_tune.reports.judge.records import DECIDED, LEAST_SEEDS, Evidence, Family, Finding, Verdict
from tskd_tune.reports.judge.sentences import sentence_of, under_the_table
from tskd_tune.reports.judge.teachers_evidence import over_teachers
from tskd_tune.reports.judge.values import LEVEL, Values
from tskd_tune.reports.judge.variance_components import Crossed
from tskd_tune.reports.judge.words import POINTS


def family(
    arms: Mapping[str, Values],
    pairs: Sequence[tuple[str, str]],
    *,
    margin: float | None = MARGIN,
    metric: Metric = POINTS,
    protocol: Protocol = FIXED,
    crossed: Crossed | None = None,
) -> Family:
    """Compare the arms of one table and give every difference a verdict.

    Args:
        arms: name -> seed -> value; an arm without a finished seed is an empty mapping.
        pairs: the declared family: (arm, baseline) for each contrast.
        margin: differences within plus or minus the margin count as equivalent; None tests no equivalence.
        metric: the metric of the values; differences and margin have the unit of this metric.
        protocol: how the table is judged; without ``evidence`` from a path of tests this is one fixed test.
        crossed: the differences of the comparisons under several teachers.

    Raises:
        InputError: a name is unknown, a contrast is given twice, or a value is not a finite number.
    """
    return judge(contrasts(arms, pairs, margin=margin, crossed=crossed), metric=metric, protocol=protocol)


def contrasts(
    arms: Mapping[str, Values],
    pairs: Sequence[tuple[str, str]],
    *,
    margin: float | None = MARGIN,
    crossed: Crossed | None = None,
) -> list[Contrast]:
    """Compare the arms of each pair, (arm, baseline).

    Raises:
        InputError: a name is unknown, a contrast is given twice, or a value is not a finite number.
    """
    refuse(arms, pairs)
    cells = crossed or {}
    return [
        contrast(arms[name], arms[base], arm=name, baseline=base, margin=margin, cells=cells.get((name, base)))
        for name, base in pairs
    ]


def judge(
    found: Sequence[Contrast],
    evidence: Sequence[Evidence] | None = None,
    *,
    metric: Metric = POINTS,
    protocol: Protocol = FIXED,
) -> Family:
    """Give each contrast of one family a verdict, by its own p values or by the evidence of a path of tests.

    Raises:
        InputError: there is no contrast, their margins differ, or there is no margin to judge by.
    """
    margins = {item.margin for item in found}
    if not found:
        raise InputError("compare: there is nothing to compare; give at least one pair of arms")
    if len(margins) > 1:
        given_margins = ", ".join(map(str, sorted(margins, key=str)))
        raise InputError(f"compare.margin: all comparisons must share one margin, got {given_margins}")
    if protocol.by == "margin" and None in margins:
        raise InputError("compare.rule: 'margin' needs a margin; set compare.margin, in the unit of the metric")
    level = 1 - power.ALPHA / len(found)
    given = evidence or [
        over_teachers(item, level) or Evidence(item.p, item.tost_p, item.interval_at(level)) for item in found
    ]
    tested = [_is_due(item, one) and one.p is not None for item, one in zip(found, given, strict=True)]
    adjusted = holm([one.p if known and one.p is not None else 1.0 for one, known in zip(given, tested, strict=True)])
    findings = tuple(
        _finding(Finding(item, one, len(found), p if known else None, None, None), protocol, metric)
        for item, one, p, known in zip(found, given, adjusted, tested, strict=True)
    )
    seen = visible(found, protocol)
    sentence = under_the_table(seen, found, metric, protocol)
    return Family(findings, seen, power.ALPHA, margins.pop(), sentence, protocol.marks.why, protocol.by)


def _is_due(item: Contrast, one: Evidence) -> bool:
    return item.n >= LEAST_SEEDS and not one.pending


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values adjusted by Holm's step-down method, in the order given.

    ``statsmodels.stats.multitest.multipletests`` gives the same values, but runs the garbage collector on every call,
    which takes 0.1 s.
    """
    order = np.argsort(p_values, kind="stable")
    scaled = np.asarray(p_values, dtype=float)[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return [float(p) for p in adjusted]


def holm_of_known(p_values: Sequence[float | None]) -> list[float | None]:
    """Return `holm` of the p values that are known; None stays None, and counts as no test."""
    adjusted = iter(holm([p for p in p_values if p is not None]))
    return [None if p is None else next(adjusted) for p in p_values]


def refuse(arms: Mapping[str, Values], pairs: Sequence[tuple[str, str]]) -> None:
    """Refuse a family that names unknown arms, or a pair twice.

    Raises:
        InputError: as above.
    """
    for pair in pairs:
        for name in pair:
            if name not in arms:
                raise InputError(f"comparison {' - '.join(pair)}: unknown arm '{name}'{did_you_mean(name, arms)}")
        if pair[0] == pair[1]:
            raise InputError(f"comparison {' - '.join(pair)}: an arm cannot be compared with itself")
    unordered = [frozenset(pair) for pair in pairs]
    twice = [pair for pair in pairs if unordered.count(frozenset(pair)) > 1]
    if twice:
        raise InputError(f"comparison {' - '.join(twice[0])}: is given twice; name each pair of arms once")


def _finding(tested: Finding, protocol: Protocol, metric: Metric) -> Finding:
    """Return a tested contrast with its verdict and its sentence."""
    item, one = tested.contrast, tested.evidence
    if not _is_due(item, one):
        shown = over_teachers(item, LEVEL)
        interval = shown.interval if shown else item.interval
        smoke = replace(tested, evidence=Evidence(None, None, interval, pending=one.pending))
        return replace(smoke, sentence=sentence_of(smoke, metric, protocol))
    margin_p = None if one.tost_p is None else min(1.0, tested.family_size * one.tost_p)
    tested = replace(tested, margin_p=margin_p, exploratory=protocol.marks.cover(item.arm, item.baseline))
    verdict = _by_margin(tested, metric) if protocol.by == "margin" else _by_difference(tested)
    if verdict == "resolved" and one.interval is not None:
        one = replace(one, interval=one.interval.without_zero(item.difference or 0.0))
    plan = None if verdict in DECIDED else needed(item, tested.family_size, protocol)
    finding = replace(tested, evidence=one, verdict=verdict, needed=plan)
    return replace(finding, sentence=sentence_of(finding, metric, protocol))


def _by_difference(tested: Finding) -> Verdict:
    if tested.holm_p is not None and tested.holm_p <= power.ALPHA:
        return "resolved"
    return "equivalent" if tested.is_within else "undecided"


def _by_margin(tested: Finding, metric: Metric) -> Verdict:
    """Return where the interval lies relative to the margin; where nothing varies, a test of signs stands in."""
    interval, margin = tested.evidence.interval, tested.contrast.margin
    if interval is None or margin is None:
        return "equivalent" if tested.is_within else "continue"
    if interval.low > margin or interval.high < -margin:
        return "relevantly better" if (interval.low > 0) == (metric.mode == "max") else "relevantly worse"
    return "equivalent" if -margin < interval.low and interval.high < margin else "continue"
