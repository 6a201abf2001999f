"""Tests the differences of one table: Holm's correction over the family, a verdict and a sentence for each contrast.

*Resolved*: the paired t test's p, adjusted by Holm over the family, is at most 0.05. Otherwise *equivalent*: two
one-sided tests show that the difference is within the margin. Otherwise *undecided*. Below five common seeds there is
no verdict, and significance is not mentioned. A contrast without a test also counts in the family, so the family has
the declared size.

Sources: Holm 1979; Schuirmann 1987 (TOST).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from tskd_tune.errors import InputError, did_you_mean
from tskd_tune.metrics import Metric
from tskd_tune.reports.judge import power
from tskd_tune.reports.judge.contrasts import MARGIN, Contrast, contrast
from tskd_tune.reports.judge.records import LEAST_SEEDS, Evidence, Family, Finding, Verdict, Visible
from tskd_tune.reports.judge.sentences import sentence_of, under_the_table
from tskd_tune.reports.judge.values import Values
from tskd_tune.reports.judge.words import POINTS


def family(
    arms: Mapping[str, Values],
    pairs: Sequence[tuple[str, str]],
    *,
    margin: float | None = MARGIN,
    metric: Metric = POINTS,
) -> Family:
    """Compare the arms of one table and give every difference a verdict.

    Args:
        arms: name -> seed -> value; an arm without a finished seed is an empty mapping.
        pairs: the declared family: (arm, baseline) for each contrast.
        margin: differences within plus or minus the margin count as equivalent; None tests no equivalence.
        metric: the metric of the values; differences and margin have the unit of this metric.

    Raises:
        InputError: a name is unknown, a contrast is given twice, or a value is not a finite number.
    """
    return judge(contrasts(arms, pairs, margin=margin), metric=metric)


def contrasts(
    arms: Mapping[str, Values], pairs: Sequence[tuple[str, str]], *, margin: float | None = MARGIN
) -> list[Contrast]:
    """Compare the arms of each pair, (arm, baseline).

    Raises:
        InputError: a name is unknown, a contrast is given twice, or a value is not a finite number.
    """
    _check(arms, pairs)
    return [contrast(arms[name], arms[base], arm=name, baseline=base, margin=margin) for name, base in pairs]


def judge(found: Sequence[Contrast], evidence: Sequence[Evidence] | None = None, *, metric: Metric = POINTS) -> Family:
    """Give each contrast of one family a verdict, by its own p values or by the evidence of an interim analysis.

    Raises:
        InputError: there is no contrast, or their margins differ.
    """
    margins = {item.margin for item in found}
    if not found:
        raise InputError("family: there is no contrast to judge; give at least one pair of arms")
    if len(margins) > 1:
        given_margins = ", ".join(map(str, sorted(margins, key=str)))
        raise InputError(f"family: its contrasts must share one margin, got {given_margins}")
    given = evidence or [Evidence(item.p, item.tost_p, item.interval) for item in found]
    tested = [item.n >= LEAST_SEEDS and one.p is not None for item, one in zip(found, given, strict=True)]
    adjusted = holm([one.p if known and one.p is not None else 1.0 for one, known in zip(given, tested, strict=True)])
    findings = tuple(
        _finding(item, one, p if known else None, len(found), metric)
        for item, one, p, known in zip(found, given, adjusted, tested, strict=True)
    )
    seen = _visible(found)
    return Family(findings, seen, power.ALPHA, margins.pop(), under_the_table(seen, len(found), metric))


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


def _check(arms: Mapping[str, Values], pairs: Sequence[tuple[str, str]]) -> None:
    for pair in pairs:
        for name in pair:
            if name not in arms:
                raise InputError(f"contrast {' - '.join(pair)}: unknown arm '{name}'{did_you_mean(name, arms)}")
        if pair[0] == pair[1]:
            raise InputError(f"contrast {' - '.join(pair)}: an arm cannot be compared with itself")
    unordered = [frozenset(pair) for pair in pairs]
    twice = [pair for pair in pairs if unordered.count(frozenset(pair)) > 1]
    if twice:
        raise InputError(f"contrast {' - '.join(twice[0])}: is in the family twice; name each pair of arms once")


def _finding(item: Contrast, one: Evidence, holm_p: float | None, size: int, metric: Metric) -> Finding:
    verdict = _verdict(item, one, holm_p)
    resolve, equivalence = _seeds_needed(item, size) if verdict == "undecided" else (None, None)
    if verdict is None:
        one = replace(one, p=None, tost_p=None)
    finding = Finding(item, one, size, holm_p, verdict, resolve, equivalence)
    return replace(finding, sentence=sentence_of(finding, metric))


def _verdict(item: Contrast, one: Evidence, holm_p: float | None) -> Verdict | None:
    if item.n < LEAST_SEEDS:
        return None
    if holm_p is not None and holm_p <= power.ALPHA:
        return "resolved"
    return "equivalent" if one.is_within else "undecided"


def _seeds_needed(item: Contrast, size: int) -> tuple[int | None, int | None]:
    """Return the seeds that would resolve the measured difference, and the seeds that would show equivalence."""
    if not item.sd or item.difference is None:
        return None, None
    alpha = power.ALPHA / size
    resolve = power.seeds_needed(item.difference, item.sd, alpha=alpha, paired=item.paired)
    if item.margin is None or abs(item.difference) >= item.margin:
        return resolve, None
    return resolve, power.seeds_for_equivalence(item.margin, item.sd, paired=item.paired)


def _visible(found: Sequence[Contrast]) -> Visible | None:
    spreading = [item for item in found if item.spread == "measured" and item.sd and item.df]
    spreading = [item for item in spreading if item.n >= LEAST_SEEDS] or spreading
    if not spreading:
        return None
    n, paired = min(item.n for item in spreading), any(item.paired for item in spreading)
    weights = [item.df or 0.0 for item in spreading]
    squares = [weight * (item.sd or 0.0) ** 2 for weight, item in zip(weights, spreading, strict=True)]
    sd = math.sqrt(sum(squares) / sum(weights))
    plain, strict = (
        power.smallest_difference(sd, n, alpha=alpha, paired=paired)
        for alpha in (power.ALPHA, power.ALPHA / len(found))
    )
    return Visible(n, sd, len(spreading), paired, plain, strict)
