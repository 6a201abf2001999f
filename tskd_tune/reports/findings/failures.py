"""Holds the verdicts of a table against the worst case of its failed seeds (`tskd_tune.reports.judge.failed_seeds`).

The table is tested again with the worst case in place of what was seen, by the same tests and the same correction. A
verdict that changes is withheld, also that of a comparison without failed seeds: Holm's correction counts the verdicts
of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from tskd_tune.metrics import Metric
from tskd_tune.records.entries.row import Row
from tskd_tune.reports.findings.several_teachers import run_text
from tskd_tune.reports.judge.contrasts import Contrast
from tskd_tune.reports.judge.failed_seeds import are_too_many, moved_by, worst_difference
from tskd_tune.reports.judge.qualified import OPEN, Qualification, pair_of, qualified
from tskd_tune.reports.judge.records import Family, Finding
from tskd_tune.reports.judge.sequential import ALL_DECIDED, Analysis
from tskd_tune.reports.judge.values import Values
from tskd_tune.reports.judge.words import difference_text, p_text, runs_of
from tskd_tune.words import count

ENDED = {"failed": "failed", "stopped": "stopped early", "done": "gave no finite value"}

Pair = tuple[str, str]


@dataclass(frozen=True)
class Table:
    """A table of values, as it is judged.

    Attributes:
        values: label -> seed -> value.
        pairs: the comparisons.
        twins: label of an arm with moved values -> label of the arm; empty for the table that was measured.
    """

    values: Mapping[str, Values]
    pairs: Sequence[Pair]
    twins: Mapping[str, str]


Judge = Callable[[Table], Family]
Claim = tuple[float, int]
"""The end of a claim and its direction: the difference is above (1) or below (-1) this value."""


def withstood(
    table: Table, judge: Judge, gone: Mapping[str, set[int]], doubts: Mapping[Pair, Qualification], metric: Metric
) -> Family:
    """Judge a table, and qualify its verdicts by the worst case of its failed seeds and by other doubts.

    Args:
        table: the table.
        judge: tests a table.
        gone: label -> the seeds without a value (see `lost`).
        doubts: what else qualifies the comparisons.
        metric: the metric of the values.
    """
    found = judge(table)
    failed = _failures(found, table, judge, gone, metric)
    nothing = Qualification()
    given = {pair: failed.get(pair, nothing) + doubts.get(pair, nothing) for pair in (*failed, *doubts)}
    return qualified(found, given, metric)


def going_on(analysis: Analysis, found: Family, seeds: Sequence[int]) -> Analysis:
    """Return an interim analysis that goes on where a verdict that would have stopped the sweep is withheld.

    Args:
        analysis: the analysis as it was measured.
        found: its family, with the verdicts that are withheld.
        seeds: all declared seeds, in the order of training.
    """
    later = [at for at in analysis.boundaries.interim if at > analysis.at]
    withheld = sum(bool(finding.withheld) for finding in found.findings)
    if not (analysis.stop and later and withheld):
        return analysis
    why = f"go on to {later[0]} seeds: {withheld} of {count(len(found.findings), 'comparison')} without a decision"
    sentence = analysis.sentence.replace(ALL_DECIDED, why)
    return replace(analysis, stop=False, next_seeds=tuple(seeds[analysis.at : later[0]]), sentence=sentence)


def lost(rows: Mapping[str, Sequence[Row]], metric: str, within: Sequence[int] | None = None) -> dict[str, set[int]]:
    """Return label -> the seeds that ended without a value: failed, stopped by a scheduler, or not finite.

    Args:
        rows: label -> the rows of the arm.
        metric: the name of the metric in rows.
        within: the seeds that a test uses; None for all.
    """
    return {
        label: {row.seed for row in _without_value(of, metric) if within is None or row.seed in within}
        for label, of in rows.items()
    }


def lost_notes(rows: Mapping[str, Sequence[Row]], pairs: Sequence[Pair], metric: str) -> list[str]:
    """Return a sentence for each compared arm that has seeds without a value."""
    names = {name for pair in pairs for name in pair}
    return [said for label, of in rows.items() if label in names and (said := _lost_note(label, of, metric))]


def _lost_note(label: str, rows: Sequence[Row], metric: str) -> str:
    """Say which seeds of an arm have no value, and why; empty where all seeds have a value."""
    found: dict[str, list[str]] = {}
    gone = sorted(_without_value(rows, metric, cut=True), key=lambda row: row.seed)
    for row in gone:
        found.setdefault(row.status, []).append(run_text(row))
    said = [f"{'seed' if len(of) == 1 else 'seeds'} {', '.join(of)} {ENDED[how]}" for how, of in found.items()]
    rest = "" if all(row.cut for row in gone) else ", and each verdict must stand in the worst case"
    return f"'{label}': {' and '.join(said)}; not counted in any comparison{rest}." if said else ""


def _without_value(rows: Sequence[Row], metric: str, *, cut: bool = False) -> list[Row]:
    """Return the rows that ended without a value; those that a budget has cut, which are trained on, if asked for."""
    gone = [row for row in rows if row.status != "done" or row.metrics.get(metric) is None]
    return [row for row in gone if cut or not row.cut]


def _failures(
    found: Family, table: Table, judge: Judge, lost: Mapping[str, set[int]], metric: Metric
) -> dict[Pair, Qualification]:
    """Return (arm, baseline) -> the worst case of a verdict, or why the verdict is withheld."""
    gone = {pair: sorted(set().union(*(lost.get(name, set()) for name in pair))) for pair in table.pairs}
    if not any(gone.values()):
        return {}
    findings = [finding for finding in found.findings if finding.verdict is not None]
    barred = {pair_of(finding): why for finding in findings if (why := _barred(finding, gone[pair_of(finding)]))}
    worst = [judge(_moved(table, findings, gone, barred, end)) for end in (0, 1)]
    again = {pair: [family.findings[place] for family in worst] for place, pair in enumerate(map(tuple, table.pairs))}
    told = {
        pair_of(finding): Qualification(withheld=barred[pair_of(finding)])
        if pair_of(finding) in barred
        else _told(finding, gone[pair_of(finding)], again[pair_of(finding)], table, metric)
        for finding in findings
    }
    return {pair: one for pair, one in told.items() if one != Qualification()}


def _barred(finding: Finding, seeds: Sequence[int]) -> str:
    """Say why failed seeds allow no verdict at all; empty where there is a worst case to hold it against."""
    item = finding.contrast
    if not seeds:
        return ""
    said = f"{count(len(seeds), 'seed')} failed ({runs_of(seeds)})"
    if are_too_many(len(seeds), item.n):
        return f"{said} of {len(seeds) + item.n}. Where more than a quarter has failed, nothing is decided."
    if not item.paired:
        return f"{said}, and arms without a common seed have no worst case."
    if item.spread != "measured":
        return f"{said}, and differences that do not vary have no worst case."
    return ""


def _stands(finding: Finding, worst: Finding) -> bool:
    """Tell whether the worst case has the same verdict. Moved to an end of the margin, a difference may be resolved."""
    return worst.verdict == finding.verdict or (finding.verdict == "equivalent" and worst.is_within)


def _claims(finding: Finding) -> tuple[Claim, Claim]:
    """Return both one-sided claims of a verdict; a verdict in one direction has one claim."""
    item = finding.contrast
    difference, margin = item.difference or 0.0, item.margin or 0.0
    side = 1 if difference > 0 else -1
    if finding.verdict == "equivalent":
        return (-margin, 1), (margin, -1)
    center = side * margin if str(finding.verdict).startswith("relevantly") else 0.0
    return (center, side), (center, side)


def _moved(
    table: Table, findings: Sequence[Finding], gone: Mapping[Pair, Sequence[int]], barred: Mapping[Pair, str], end: int
) -> Table:
    """Return the table with the values of each arm that has failed seeds moved to the worst case of a claim."""
    values, pairs, twins = dict(table.values), list(table.pairs), {}
    for finding in findings:
        pair = pair_of(finding)
        if not gone[pair] or finding.verdict in OPEN or finding.contrast.difference is None:
            continue
        twin = f"{pair[0]} (worst case against {pair[1]})"
        if pair in barred:
            by = -finding.contrast.difference
        else:
            center, side = _claims(finding)[end]
            differences = _differences(table, finding.contrast)
            by = moved_by(differences, len(gone[pair]), center=center, side=side, family_size=len(table.pairs))
        values[twin] = {seed: value + by for seed, value in table.values[pair[0]].items()}
        pairs[pairs.index(pair)] = (twin, pair[1])
        twins[twin] = pair[0]
    return Table(values, pairs, twins)


def _differences(table: Table, item: Contrast) -> list[float]:
    return [table.values[item.arm][seed] - table.values[item.baseline][seed] for seed in item.seeds]


def _told(
    finding: Finding, seeds: Sequence[int], worst: Sequence[Finding], table: Table, metric: Metric
) -> Qualification:
    """Say whether a verdict stands in the worst case."""
    if finding.verdict in OPEN:
        return Qualification()
    stands = all(_stands(finding, one) for one in worst)
    if not seeds:
        why = (
            "seeds of other comparisons failed. In their worst case these comparisons are undecided, and then Holm's"
            " correction does not resolve this one."
        )
        return Qualification(withheld="" if stands else why)
    said = f"{count(len(seeds), 'seed')} failed ({runs_of(seeds)})"
    sides = dict.fromkeys(side for _, side in _claims(finding))
    ends = [worst_difference(_differences(table, finding.contrast), side, finding.family_size) for side in sides]
    at = f"a difference of {' and of '.join(difference_text(one, metric) for one in ends)}"
    p = max((one.holm_p for one in worst if one.holm_p is not None), default=None)
    shown = f" ({p_text(p)})" if p is not None and finding.verdict == "resolved" else ""
    if stands:
        return Qualification((f"{said}; the verdict stands in the worst case, {at}{shown}.",))
    return Qualification(withheld=f"{said}. The verdict does not stand in the worst case, {at}{shown}.")
