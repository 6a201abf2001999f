"""Compares the arms of a run: the comparisons that a sweep declares, or the default comparisons.

By default, every arm is compared with the first arm without a review of the same task and student, and an arm that has
controls is also compared with each control. The comparisons of all tasks and students are one family. A method that is
compared for several tasks or students is also summarized over them. Seeds are paired. Verdicts must stand in the worst
case of seeds that did not end well, and a note names these seeds. Where the sweep declares interim analyses, the
verdicts are those of the last interim analysis whose seeds have all ended. A sweep of an earlier version is judged as
it was declared: by one test of a fixed number of seeds, or by O'Brien and Fleming's boundaries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tskd_tune.metrics import PERCENT, Metric
from tskd_tune.records.entries.row import Row
from tskd_tune.reports.findings.allowing import unfit
from tskd_tune.reports.findings.analyses import Analyses, Interim
from tskd_tune.reports.findings.crossing import crossed
from tskd_tune.reports.findings.declared import Declared
from tskd_tune.reports.findings.endings import Counts
from tskd_tune.reports.findings.failures import Table, going_on, lost, lost_notes, withstood
from tskd_tune.reports.findings.frozen import NOT_FROZEN, Frozen
from tskd_tune.reports.findings.grouping import alike
from tskd_tune.reports.findings.pairs import Pairs, Trained, pairs_of, setting_of
from tskd_tune.reports.findings.qualifications import Runs, qualifications
from tskd_tune.reports.findings.several_teachers import cells_of, ended_seeds, unseen_notes
from tskd_tune.reports.judge import sequential, verdicts
from tskd_tune.reports.judge.always_valid import Split
from tskd_tune.reports.judge.contrasts import MARGIN, Contrast
from tskd_tune.reports.judge.meta_analysis import Pooled, pooled
from tskd_tune.reports.judge.protocol import Marks, Protocol
from tskd_tune.reports.judge.qualified import Qualification
from tskd_tune.reports.judge.records import Family
from tskd_tune.reports.judge.sentences import without_verdict
from tskd_tune.reports.judge.teachers_evidence import with_shares
from tskd_tune.reports.judge.variance_components import Crossed

# Separates the parts of a point's label. The first part often names a teacher-student pair.
SEPARATOR = ", "


@dataclass(frozen=True)
class Verdicts:
    """The comparisons of a sweep with their verdicts, summaries and notes.

    Attributes:
        family: the comparisons and their verdicts.
        pooled: every method that was compared in several teacher-student pairs.
        declared: a sentence on which arms are compared with which.
        notes: sentences on interim analyses, seeds that do not count, and a sweep that still runs.
        interim: the last interim analysis; None without one.
    """

    family: Family
    pooled: tuple[Pooled, ...]
    declared: str
    notes: tuple[str, ...]
    interim: Interim | None


@dataclass(frozen=True)
class Comparison:
    """The verdicts; where nothing is compared, None and a sentence with the reason."""

    verdicts: Verdicts | None
    reason: str = ""


@dataclass(frozen=True)
class Headline:
    """The metric by which arms are compared, and the name of this metric in rows."""

    name: str
    metric: Metric

    def margin(self, declared: float | None) -> float | None:
        """Return the declared margin, otherwise the default margin of percentages; None for any other metric."""
        return declared or (MARGIN if self.metric.unit == PERCENT else None)


def compare(
    arms: Sequence[Trained],
    document: Declared,
    headline: Headline,
    counts: Counts,
    frozen: Frozen = NOT_FROZEN,
) -> Comparison:
    """Compare the arms of a grid as the sweep's file declares, or by default.

    Args:
        arms: the arms with at least one row; each arm has a different label.
        document: the resolved sweep.
        headline: the metric by which the arms are compared.
        counts: how many trainings the run has, and how many of them have ended.
        frozen: what was declared before there were results, and what was changed since.

    Raises:
        InputError: the sweep's file was edited by hand, and its comparisons cannot be tested.
    """
    declared = document.comparing
    if len(arms) < 2:
        return Comparison(None, "One arm: there is nothing to compare it with." if arms else "No run has finished yet.")
    if declared.baseline not in {None, *(arm.label for arm in arms)}:
        return Comparison(None, f"The declared baseline '{declared.baseline}' has no finished run yet.")
    pairs, how = pairs_of(arms, declared)
    pairs = [*pairs, *_still_missing(arms, pairs, frozen)]
    if not pairs:
        return Comparison(None, "No two arms share a task and a student; declare what to compare under compare.pairs.")
    rows = {arm.label: arm.rows for arm in arms}
    unseen = {label: unseen_notes({label: of}, document.teachers) for label, of in rows.items()}
    values: dict[str, dict[int, float]] = {name: {} for pair in pairs for name in pair} | {
        arm.label: {} if unseen[arm.label] else arm.values(headline.name) for arm in arms
    }
    runs = {arm.label: Runs(arm.rows, values[arm.label], arm.collapsed) for arm in arms}
    metric, marks = headline.metric, _marks(document, arms, pairs, frozen)
    notes = (
        f"{how} {_unfinished(counts)}".strip(),
        *_undeclared(marks, frozen),
        *_rule_note(document),
        *(f"{said}." for said in unfit(declared.allow or [], [arm.rows[0].experiment for arm in arms])),
        *(said for of in unseen.values() for said in of),
        *lost_notes(rows, pairs, headline.name),
    )
    table, doubts = Table(values, pairs, {}), qualifications(runs, pairs, declared, metric)
    case = _Case(document, arms, headline, table, marks, doubts, how, notes)
    return _at_analysis(case, counts.expected) if declared.interim else _at_once(case)


@dataclass(frozen=True)
class _Case:
    """What is compared: the arms with their table, and what the verdicts must say beside the numbers."""

    document: Declared
    arms: Sequence[Trained]
    headline: Headline
    table: Table
    marks: Marks
    doubts: Mapping[tuple[str, str], Qualification]
    how: str
    notes: tuple[str, ...]

    @property
    def rows(self) -> dict[str, Sequence[Row]]:
        return {arm.label: arm.rows for arm in self.arms}

    def crossed(self, table: Table) -> Crossed:
        declared, metric = self.document.teachers, self.headline.name
        cells = {label: cells_of(of, metric, declared) for label, of in self.rows.items()}
        return crossed(cells, table.values, table.pairs, table.twins)


def _at_once(case: _Case) -> Comparison:
    """Compare without interim analyses."""
    gone, metric = lost(case.rows, case.headline.name), case.headline.metric
    found = withstood(case.table, lambda table: _judged(case, table), gone, case.doubts, metric)
    # The pooled tests are not corrected for seeds that were added.
    contrasts = [finding.contrast for finding in found.findings]
    # Several teachers of one network are no independent pairs, and their variance is not that of the seeds.
    simple = not case.document.comparing.added and not any(item.teachers for item in contrasts)
    members = _members(contrasts, case.arms) if simple else {}
    found = with_shares(found, metric)
    told = tuple(filter(None, [found.exploratory, *case.notes, *without_verdict(found)]))
    return Comparison(Verdicts(found, tuple(pooled(members, metric)), case.how, told, None))


def _at_analysis(case: _Case, expected: int | None) -> Comparison:
    """Compare at the last interim analysis whose seeds have all ended."""
    state = Analyses.read(case.document, case.rows, case.table.pairs, expected)
    if state.taken is None:
        return Comparison(None, " ".join([state.before(), *unseen_notes(case.rows, case.document.teachers)]))
    metric, gone = case.headline.metric, lost(case.rows, case.headline.name, state.seeds[: state.taken])
    family = withstood(case.table, lambda table: _analyzed(case, state, table).family, gone, case.doubts, metric)
    analysis = going_on(_analyzed(case, state, case.table), family, state.seeds)
    family = with_shares(family, metric)
    first = [family.exploratory] if family.exploratory else []
    told = (*first, analysis.sentence, *state.since(analysis), *case.notes, *without_verdict(family))
    # The pooled tests are not corrected for interim analyses, so nothing is pooled.
    return Comparison(Verdicts(family, (), case.how, told, state.shown(analysis)))


def _still_missing(arms: Sequence[Trained], pairs: Pairs, frozen: Frozen) -> Pairs:
    """Return the declared comparisons of arms without a row yet: they count in the correction all the same."""
    if frozen.exploratory:  # an arm may have been taken away, which the first lines say
        return []
    there = {(_label_of(arms, arm), _label_of(arms, baseline)) for arm, baseline in pairs}
    known = {_label_of(arms, arm.label) for arm in arms}
    return sorted(pair for pair in frozen.family or () if pair not in there and not {*pair} <= known)


def _label_of(arms: Sequence[Trained], name: str) -> str:
    """Return the label of an arm in the sweep; where several have it, the report adds the trial to the label."""
    return next((arm.rows[0].arm for arm in arms if arm.label == name and arm.rows), name)


def _marks(document: Declared, arms: Sequence[Trained], pairs: Pairs, frozen: Frozen) -> Marks:
    """Return which verdicts are exploratory: all after an edit, those of comparisons that were added later anyway."""
    why = " ".join(filter(None, [frozen.exploratory, document.exploratory, _too_early(document, arms, pairs)]))
    late = [pair for pair in pairs if not frozen.declares(*(_label_of(arms, name) for name in pair))]
    return Marks(why, frozenset(late))


def _too_early(document: Declared, arms: Sequence[Trained], pairs: Pairs) -> str:
    """Say that one fixed test is done before its seeds have ended; empty where they have, and under other rules."""
    if document.comparing.sequential != "fixed":
        return ""
    ended = {arm.label: ended_seeds(arm.rows, lambda row: row.ended, document.teachers) for arm in arms}
    compared = [ended.get(name, set()) for name in {name for pair in pairs for name in pair}]
    seeds = document.all_seeds
    done = sum(all(seed in found for found in compared) for seed in seeds)
    if done == len(seeds):
        return ""
    return (
        f"The verdicts are exploratory until all seeds have ended: the run declared one test of {len(seeds)} seeds, and"
        f" {done} have ended in every arm."
    )


def _judged(case: _Case, table: Table) -> Family:
    """Judge a table without interim analyses: from its first verdict on, or by one test."""
    document, declared, metric = case.document, case.document.comparing, case.headline.metric
    margin, under = case.headline.margin(declared.margin), case.crossed(table)
    if declared.sequential != "split":
        protocol = Protocol(by=declared.rule, marks=case.marks)
        return verdicts.family(
            table.values, table.pairs, margin=margin, metric=metric, protocol=protocol, crossed=under
        )
    # A seed that failed has ended: the worst case stands in for its value. One that a budget has cut is trained on.
    ended = {label: ended_seeds(rows, lambda row: not row.cut, document.teachers) for label, rows in case.rows.items()}
    return sequential.split(
        table.values,
        table.pairs,
        seeds=document.all_seeds,
        first=document.first_seeds,
        ended={label: ended.get(table.twins.get(label, label), set()) for label in table.values},
        margin=margin,
        metric=metric,
        by=declared.rule,
        marks=case.marks,
        crossed=under,
    )


def _analyzed(case: _Case, state: Analyses, table: Table) -> sequential.Analysis:
    """Judge a table at its last interim analysis."""
    declared = case.document.comparing
    return sequential.analysis(
        table.values,
        table.pairs,
        seeds=state.seeds,
        interim=state.interim,
        at=state.taken or 0,
        margin=case.headline.margin(declared.margin),
        metric=case.headline.metric,
        rule="obrien_fleming" if declared.sequential is None else "looks",
        by=declared.rule,
        marks=case.marks,
        crossed=case.crossed(table),
    )


# One method in several groups


def _members(contrasts: Sequence[Contrast], arms: Sequence[Trained]) -> dict[str, list[Contrast]]:
    """Gather the contrasts of one method with one baseline over several groups, by the labels within each group."""
    methods = {name: method for group in alike(arms, setting_of) for name, method in _methods(group).items()}
    settings = {arm.label: arm.setting for arm in arms}
    found: dict[str, list[Contrast]] = {}
    for item in contrasts:
        if item.arm in settings and settings[item.arm] == settings.get(item.baseline):
            found.setdefault(f"'{methods[item.arm]}' against '{methods[item.baseline]}'", []).append(item)
    return found


def _methods(group: Sequence[Trained]) -> dict[str, str]:
    """Return each label without the parts that all labels of the group share; these parts name the group."""
    parts = {arm.label: arm.label.split(SEPARATOR) for arm in group}
    shared = set.intersection(*map(set, parts.values()))
    return {
        label: SEPARATOR.join(part for part in found if part not in shared) or label for label, found in parts.items()
    }


# Seeds that do not count, and runs that are still missing


def _rule_note(document: Declared) -> list[str]:
    """Say that seeds may be added, where they may."""
    split = document.comparing.sequential == "split"
    return [Protocol("split", design=Split(document.first_seeds)).note] if split else []


def _undeclared(marks: Marks, frozen: Frozen) -> list[str]:
    """Name the comparisons that nobody declared, except those that the first lines of the report name."""
    rest = [] if marks.why else sorted(marks.late - frozen.added)
    named = ", ".join(f"'{arm}' against '{baseline}'" for arm, baseline in rest)
    return [f"Not declared before there were results, so with an exploratory verdict: {named}."] if rest else []


def _unfinished(counts: Counts) -> str:
    return "" if counts.all_finished else f"{counts.of_expected} have ended: nothing here is final."
