"""Gathers what qualifies each comparison of a run, from the rows of its two arms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from tskd_tune.metrics import Metric
from tskd_tune.records.entries.row import Row
from tskd_tune.reports.findings.declared import Compare
from tskd_tune.reports.findings.grouping import few
from tskd_tune.reports.findings.likeness import Unlike, unlike
from tskd_tune.reports.judge.qualified import Qualification
from tskd_tune.reports.judge.robust import Estimate, probability_of_improvement
from tskd_tune.reports.judge.words import difference_text, runs_of, seeds_text


@dataclass(frozen=True)
class Runs:
    """The runs of one arm: its rows, its values by seed, and the seeds that collapsed."""

    rows: Sequence[Row] = ()
    values: Mapping[int, float] = field(default_factory=dict)
    collapsed: Sequence[int] = ()

    def without_collapses(self) -> dict[int, float]:
        """Return the values of the runs that did not collapse."""
        return {seed: value for seed, value in self.values.items() if seed not in self.collapsed}


def qualifications(
    arms: Mapping[str, Runs], pairs: Sequence[tuple[str, str]], declared: Compare, metric: Metric
) -> dict[tuple[str, str], Qualification]:
    """Return (arm, baseline) -> what qualifies their comparison.

    Args:
        arms: label -> runs; an arm without rows may be missing.
        pairs: the comparisons.
        declared: what the sweep declares of its comparisons.
        metric: the metric of the values.
    """
    found = {}
    for pair in pairs:
        ours, theirs = (arms.get(name, Runs()) for name in pair)
        likeness = _likeness(unlike(ours.rows, theirs.rows), declared.allow or ())
        better = probability_of_improvement([*ours.values.values()], [*theirs.values.values()], mode=metric.mode)
        code = _of_other_code(ours.rows, theirs.rows)
        likeness += Qualification((code,) if code else ())
        found[pair] = likeness + _collapses(dict(zip(pair, (ours, theirs), strict=True)), better, metric)
    return found


def _collapses(runs: Mapping[str, Runs], better: Estimate | None, metric: Metric) -> Qualification:
    """Say which runs collapsed, what the comparison shows without them, and what can then be claimed."""
    told = [
        f"seed {seed} of '{name}' ({metric.text(of.values[seed])})"
        for name, of in runs.items()
        for seed in of.collapsed
    ]
    if not told:
        return Qualification(improvement=better)
    ours, theirs = (of.without_collapses() for of in runs.values())
    rest = [ours[seed] - theirs[seed] for seed in ours if seed in theirs]
    left = f"{difference_text(fmean(rest), metric)} ({seeds_text(len(rest))})" if rest else "not known"
    said = [
        f"Collapsed: {few(told)}. The test counts these runs; a claim can only be one of runs that do not collapse:"
        f" without them the difference is {left}."
    ]
    if better is not None and better.low is not None and better.high is not None:
        said.append(
            f"A run of '{next(iter(runs))}' is the better one with a probability of {better.value:.2f}"
            f" ({100 * better.level:.4g} % bootstrap interval {better.low:.2f} to {better.high:.2f})."
        )
    return Qualification(tuple(said), improvement=better)


def _likeness(found: Sequence[Unlike], allowed: Sequence[str]) -> Qualification:
    """Say in what two arms also differ; what is not allowed withholds the verdict."""
    if not found:
        return Qualification()
    open_ = [item for item in found if not item.is_allowed(allowed)]
    said = f"Also differs in: {few([item.sentence for item in found])}."
    if not open_:
        return Qualification((f"{said[:-1]} (allowed by compare.allow).",))
    paths = ", ".join(dict.fromkeys(item.path for item in open_))
    return Qualification(
        (said,),
        "the arms differ in more than what is compared. Train them alike, or say that the difference is meant:"
        f" compare: {{allow: [{paths}]}}.",
    )


def _of_other_code(arm: Sequence[Row], baseline: Sequence[Row]) -> str:
    """Say that the runs of two arms were made by other code, seed by seed; empty where they were not."""
    ours, theirs = ({row.seed: _code(row) for row in rows} for rows in (arm, baseline))
    found: dict[str, list[int]] = {}
    for seed in sorted(ours.keys() & theirs.keys()):
        one, two = ours[seed], theirs[seed]
        told = [f"{key} {one[key]} against {two[key]}" for key in one if key in two and one[key] != two[key]]
        if told:
            found.setdefault(", ".join(told), []).append(seed)
    said = [f"{told} (seed{'' if len(of) == 1 else 's'} {runs_of(of)})" for told, of in found.items()]
    return f"The two arms were trained by other code, which may cause a difference: {'; '.join(said)}." if said else ""


def _code(row: Row) -> dict[str, str]:
    """Return the versions of the packages that trained a run, and the commit of a checkout."""
    return row.versions | ({"commit": row.commit[:8] + row.commit[40:]} if row.commit else {})
