"""Tests of a table while its seeds are trained or added: a first verdict with later ones, or declared analyses.

`split` tests a table from its first verdict on, at every number of seeds (`always_valid.Split`). `analysis` tests a
table at declared numbers of seeds, by the exactly calibrated bounds of `always_valid.Looks`, or by those of O'Brien and
Fleming for runs of earlier versions.

The p of a comparison is a running p: it is valid at every number of seeds at which it is looked at, so Holm over the
family is valid at each of them, too.

Sources: Ye, Li, Liu and Yao 2013 (Holm with interim analyses); Johari, Koomen, Pekelis and Walsh 2022 (running p).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from scipy import special

from tskd_tune.errors import InputError
from tskd_tune.metrics import Metric
from tskd_tune.reports.judge import power
from tskd_tune.reports.judge.always_valid import FIRST_SHARE, Looks, Split
from tskd_tune.reports.judge.contrasts import MARGIN, Contrast, contrast
from tskd_tune.reports.judge.obrien_fleming import Boundaries, checked, index_of, obrien_fleming, repeated_p
from tskd_tune.reports.judge.paths import evidence, first_pairs, step_of, steps
from tskd_tune.reports.judge.protocol import NO_MARKS, Marks, Protocol
from tskd_tune.reports.judge.records import DECIDED, LEAST_SEEDS, By, Evidence, Family
from tskd_tune.reports.judge.teachers_evidence import adjusted
from tskd_tune.reports.judge.values import Values
from tskd_tune.reports.judge.variance_components import Crossed
from tskd_tune.reports.judge.verdicts import contrasts, judge, refuse
from tskd_tune.reports.judge.words import POINTS
from tskd_tune.words import count

# From a first verdict on


def split(
    arms: Mapping[str, Values],
    pairs: Sequence[tuple[str, str]],
    *,
    seeds: Sequence[int],
    first: int,
    ended: Mapping[str, Collection[int]],
    margin: float | None = MARGIN,
    metric: Metric = POINTS,
    by: By = "difference",
    marks: Marks = NO_MARKS,
    crossed: Crossed | None = None,
) -> Family:
    """Test a family from its first verdict on; seeds may be added at any time.

    A comparison uses the seeds, in the declared order, up to the first one that has not ended in both arms. Its first
    verdict is due at ``first`` seeds. Where seeds failed, the first verdict has fewer pairs, but at least five.
    Unpaired arms are tested once, at the first verdict.

    Args:
        arms: name -> seed -> value, in the unit of the metric.
        pairs: the declared family: (arm, baseline) for each contrast.
        seeds: all seeds, in the order of training; those that were added come last.
        first: the number of seeds that the run declared before it began, at least five.
        ended: name -> the seeds whose training has ended, with or without a value.
        margin: differences within plus or minus the margin count as equivalent; None tests no equivalence.
        metric: the metric of the values.
        by: what the verdicts say.
        marks: which verdicts are exploratory.
        crossed: the differences of the comparisons under several teachers.

    Raises:
        InputError: a name is unknown, a contrast is given twice, or a value is not a finite number.
    """
    refuse(arms, pairs)
    protocol = Protocol("split", by, Split(first), marks)
    alpha = power.ALPHA / len(pairs)
    found, shown = [], []
    for name, base in pairs:
        cells = (crossed or {}).get((name, base))
        both = set(ended.get(name, ())) & set(ended.get(base, ()))
        ready = [*(seed in both for seed in seeds), False].index(False)
        if ready < first:
            found.append(contrast(arms[name], arms[base], arm=name, baseline=base, margin=margin, cells=cells))
            ended_of_first = sum(seed in both for seed in seeds[:first])
            due = f"the first verdict is at {first} seeds, and {ended_of_first} of these have ended in both arms"
            shown.append(Evidence(None, None, None, pending="" if first > len(seeds) else due))
            continue
        mine, theirs = _first(arms[name], seeds[:ready]), _first(arms[base], seeds[:ready])
        item = contrast(mine, theirs, arm=name, baseline=base, margin=margin, cells=cells)
        design = Split(first_pairs(mine, theirs, seeds[:first]))
        path = steps(mine, theirs, seeds[:ready], cells)
        shown.append(
            evidence(path, design, margin, alpha, protocol.adjusted + adjusted(item))
            if item.paired
            else _unpaired(item, alpha, added=ready > first)
        )
        found.append(item)
    return judge(found, shown, metric=metric, protocol=protocol)


def _unpaired(item: Contrast, alpha: float, *, added: bool) -> Evidence:
    """Return the evidence of unpaired arms: one test at the first verdict, and none once seeds were added."""
    if added:
        return Evidence(None, None, None)
    p, tost_p = (None if value is None else min(1.0, value / FIRST_SHARE) for value in (item.p, item.tost_p))
    return Evidence(p, tost_p, item.interval_at(1 - FIRST_SHARE * alpha), "")


# Declared analyses

ALL_DECIDED = "stop: every comparison has its verdict"


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


def analysis(
    arms: Mapping[str, Values],
    pairs: Sequence[tuple[str, str]],
    *,
    seeds: Sequence[int],
    interim: Sequence[int],
    at: int,
    margin: float | None = MARGIN,
    metric: Metric = POINTS,
    rule: Literal["looks", "obrien_fleming"] = "looks",
    by: By = "difference",
    marks: Marks = NO_MARKS,
    crossed: Crossed | None = None,
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
        rule: the bounds.
        by: what the verdicts say.
        marks: which verdicts are exploratory.
        crossed: the differences of the comparisons under several teachers; only the rule ``looks`` tests them.

    Raises:
        InputError: the declared numbers, the seeds, a name or a value is wrong.
    """
    looks = Looks(checked(interim)) if rule == "looks" else None
    boundaries = obrien_fleming(interim) if looks is None else _boundaries(looks)
    index = index_of(at, boundaries.interim)
    _check_seeds(seeds, boundaries.interim)
    known = [
        {name: _first(of, seeds[:taken]) for name, of in arms.items()} for taken in boundaries.interim[: index + 1]
    ]
    history = [contrasts(values, pairs, margin=margin, crossed=crossed) for values in known]
    protocol = Protocol(rule, by, looks, marks)
    alpha = power.ALPHA / len(pairs)
    if looks is None:
        _refuse_several(crossed)
        shown = [_repeated(path, boundaries, alpha) for path in zip(*history, strict=True)]
    else:
        shown = [_of_looks(path, looks, alpha, protocol.adjusted) for path in zip(*history, strict=True)]
    found = judge(history[-1], shown, metric=metric, protocol=protocol)
    decided = all(finding.verdict in DECIDED for finding in found.findings)
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


def _of_looks(path: Sequence[Contrast], looks: Looks, alpha: float, adjusted_for: str) -> Evidence:
    """Return the evidence of one contrast at the analyses so far."""
    last = path[-1]
    found = [step for item in path if (step := step_of(item))]
    return evidence(found, looks, last.margin, alpha, adjusted_for + adjusted(last))


def _refuse_several(crossed: Crossed | None) -> None:
    if crossed:
        raise InputError(
            "compare.sequential: is missing, and the rule of earlier versions is for one teacher; set it to looks"
        )


def _boundaries(looks: Looks) -> Boundaries:
    """Return the bounds of declared analyses by their two-sided levels."""
    levels = tuple(looks.level(n, power.ALPHA) for n in looks.at)
    z = tuple(-float(special.ndtri(level / 2)) for level in levels)
    return Boundaries(looks.at, power.ALPHA, z, levels, looks.spent(power.ALPHA))


def _repeated(path: Sequence[Contrast], boundaries: Boundaries, alpha: float) -> Evidence:
    """Return the smallest repeated p values of a contrast over its analyses so far, and its repeated interval."""
    tested = [(item, at) for item, at in zip(path, boundaries.interim, strict=False) if _testable(item)]
    interim = boundaries.interim
    p_values = [repeated_p(item.p, at, interim) for item, at in tested if item.p is not None]
    tost = [repeated_p(item.tost_p, at, interim, two_sided=False) for item, at in tested if item.tost_p is not None]
    level = 1 - obrien_fleming(interim, alpha=alpha).nominal[len(path) - 1]
    adjusted = f", adjusted for {len(interim)} interim analyses" if len(interim) > 1 else ""
    return Evidence(min(p_values, default=None), min(tost, default=None), path[-1].interval_at(level), adjusted)


def _testable(item: Contrast) -> bool:
    return item.paired and item.n >= LEAST_SEEDS


def _first(values: Values, seeds: Sequence[int]) -> dict[int, float]:
    return {seed: values[seed] for seed in seeds if seed in values}


def _check_seeds(seeds: Sequence[int], interim: Sequence[int]) -> None:
    if len(set(seeds)) != len(seeds):
        raise InputError(f"seeds: each must be given once, got {list(seeds)}")
    if len(seeds) < interim[-1]:
        raise InputError(
            f"interim: the last analysis is at {interim[-1]} seeds, but {len(seeds)} seeds are declared; add seeds, or"
            " lower the last number"
        )


# Words


def _said(found: Family, boundaries: Boundaries, index: int, decided: bool) -> str:
    interim = boundaries.interim
    open_ = sum(finding.verdict not in ("resolved", "equivalent") for finding in found.findings)
    of = f"{open_} of {count(len(found.findings), 'comparison')}"
    if decided:
        what = ALL_DECIDED
    elif index + 1 == len(interim):
        what = f"stop: this is the last interim analysis, {of} without a decision"
    else:
        what = f"go on to {interim[index + 1]} seeds: {of} without a decision"
    return (
        f"Interim analysis {index + 1} of {len(interim)}, at {interim[index]} of {interim[-1]} seeds: {what}. "
        f"A single comparison is resolved here at p <= {boundaries.nominal[index]:.2g}; "
        f"{boundaries.spent[index]:.2g} of the overall alpha of {boundaries.alpha:g} is spent."
    )
