"""Compares the arms of a run: the comparisons that a sweep declares, or the default comparisons.

By default, every arm is compared with the first arm without a review of the same task and student, and an arm that has
controls is also compared with each control. The comparisons of all tasks and students are one family. A method that is
compared for several tasks or students is also summarized over them. Seeds are paired. Verdicts must stand in the worst
case of seeds that did not end well, and a note names these seeds. Where the sweep declares interim analyses, the
verdicts are those of the last interim analysis whose seeds have all ended. A sweep of an earlier version is judged as
it was declared: by one test of a fixed number of seeds, or by O'Brien and Fleming's boundaries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tskd_tune.metrics import PERCENT, Metric
from tskd_tune.reports.findings.declared import Compare, Declared
from tskd_tune.reports.findings.endings import Counts
from tskd_tune.reports.findings.failures import Table, going_on, lost, lost_notes, withstood
from tskd_tune.reports.findings.frozen import NOT_FROZEN, Frozen
from tskd_tune.reports.findings.grouping import alike
from tskd_tune.reports.findings.pairs import Pairs, Trained, pairs_of, setting_of
from tskd_tune.reports.findings.qualifications import Runs, qualifications
from tskd_tune.reports.judge import sequential, verdicts
from tskd_tune.reports.judge.always_valid import Split
from tskd_tune.reports.judge.contrasts import MARGIN, Contrast
from tskd_tune.reports.judge.meta_analysis import Pooled, pooled
from tskd_tune.reports.judge.protocol import Marks, Protocol
from tskd_tune.reports.judge.records import Family
from tskd_tune.reports.judge.sentences import without_verdict

# Separates the parts of a point's label. The first part often names a teacher-student pair.
SEPARATOR = ", "


@dataclass(frozen=True)
class Interim:
    """The last interim analysis that was done.

    Attributes:
        declared: the number of seeds of each declared interim analysis.
        at: the number of seeds of this interim analysis.
        number: the place of this interim analysis among the declared ones, from 1.
        complete: the number of declared seeds that have ended in every arm.
        next: the number of seeds of the next interim analysis; None where the sweep stops or none is left.
        stop: whether the sweep stops.
        next_seeds: the seeds to train before the next interim analysis.
        alpha_spent: the part of the overall alpha that the interim analyses so far have spent.
        sentence: the decision in words.
    """

    declared: tuple[int, ...]
    at: int
    number: int
    complete: int
    next: int | None
    stop: bool
    next_seeds: tuple[int, ...]
    alpha_spent: float
    sentence: str


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
    expected: int | None,
    frozen: Frozen = NOT_FROZEN,
) -> Comparison:
    """Compare the arms of a grid as the sweep's file declares, or by default.

    Args:
        arms: the arms with at least one row; each arm has a different label.
        document: the resolved sweep.
        headline: the metric by which the arms are compared.
        expected: the number of rows of the finished run, if known.
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
    if not pairs:
        return Comparison(None, "No two arms share a task and a student; declare what to compare under compare.pairs.")
    values: dict[str, dict[int, float]] = {name: {} for pair in pairs for name in pair} | {
        arm.label: arm.values(headline.name) for arm in arms
    }
    rows = {arm.label: arm.rows for arm in arms}
    runs = {arm.label: Runs(arm.rows, values[arm.label], arm.collapsed) for arm in arms}
    metric, marks = headline.metric, _marks(document, arms, pairs, frozen)
    notes = (
        f"{how} {_unfinished(arms, expected)}".strip(),
        *_undeclared(marks, frozen),
        *_rule_note(document),
        *lost_notes(rows, pairs, headline.name),
    )
    table, doubts = Table(values, pairs, {}), qualifications(runs, pairs, declared, metric)
    if not declared.interim:

        def judged(table: Table) -> Family:
            return _judged(document, arms, table, headline, marks)

        found = withstood(table, judged, lost(rows, headline.name), doubts, metric)
        # The pooled tests are not corrected for seeds that were added.
        members = {} if declared.added else _members([finding.contrast for finding in found.findings], arms)
        told = tuple(filter(None, [found.exploratory, *notes, *without_verdict(found)]))
        return Comparison(Verdicts(found, tuple(pooled(members, metric)), how, told, None))
    state = _Analyses.read(document, arms, pairs, expected)
    if state.taken is None:
        return Comparison(None, state.before())
    gone = lost(rows, headline.name, state.seeds[: state.taken])

    def analyzed(table: Table) -> sequential.Analysis:
        return _analyzed(declared, state, table, headline, marks)

    family = withstood(table, lambda table: analyzed(table).family, gone, doubts, metric)
    return Comparison(_at_analysis(state, going_on(analyzed(table), family, state.seeds), family, how, notes))


def _marks(document: Declared, arms: Sequence[Trained], pairs: Pairs, frozen: Frozen) -> Marks:
    """Return which verdicts are exploratory: all after an edit, those of comparisons that were added later anyway."""
    why = " ".join(filter(None, [frozen.exploratory, document.exploratory]))
    # Where several configurations share a label, the report adds the trial to the label.
    labels = {arm.label: arm.rows[0].arm for arm in arms if arm.rows}
    late = [pair for pair in pairs if not frozen.declares(*(labels.get(name, name) for name in pair))]
    return Marks(why, frozenset(late))


def _judged(document: Declared, arms: Sequence[Trained], table: Table, headline: Headline, marks: Marks) -> Family:
    """Judge a table without interim analyses: from its first verdict on, or by one test."""
    declared = document.comparing
    margin, metric = headline.margin(declared.margin), headline.metric
    if declared.sequential != "split":
        protocol = Protocol(by=declared.rule, marks=marks)
        return verdicts.family(table.values, table.pairs, margin=margin, metric=metric, protocol=protocol)
    # A seed that failed has ended: the worst case stands in for its value. One that a budget has cut is trained on.
    ended = {arm.label: {row.seed for row in arm.rows if not row.cut} for arm in arms}
    return sequential.split(
        table.values,
        table.pairs,
        seeds=document.all_seeds,
        first=document.first_seeds,
        ended={label: ended.get(table.twins.get(label, label), set()) for label in table.values},
        margin=margin,
        metric=metric,
        by=declared.rule,
        marks=marks,
    )


def _analyzed(
    declared: Compare, state: _Analyses, table: Table, headline: Headline, marks: Marks
) -> sequential.Analysis:
    """Judge a table at its last interim analysis."""
    return sequential.analysis(
        table.values,
        table.pairs,
        seeds=state.seeds,
        interim=state.interim,
        at=state.taken or 0,
        margin=headline.margin(declared.margin),
        metric=headline.metric,
        rule="obrien_fleming" if declared.sequential is None else "looks",
        by=declared.rule,
        marks=marks,
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


def _unfinished(arms: Sequence[Trained], expected: int | None) -> str:
    counts = Counts.over([row for arm in arms for row in arm.rows], expected, 0)
    return "" if counts.all_finished else f"{counts.of_expected} have ended: nothing here is final."


# Interim analyses


def _at_analysis(
    state: _Analyses, analysis: sequential.Analysis, family: Family, how: str, notes: Sequence[str]
) -> Verdicts:
    """Return the verdicts of an interim analysis; its pooled tests would not be corrected, so nothing is pooled."""
    first = [family.exploratory] if family.exploratory else []
    told = (*first, analysis.sentence, *state.since(analysis), *notes, *without_verdict(family))
    return Verdicts(family, (), how, told, state.shown(analysis))


@dataclass(frozen=True)
class _Analyses:
    """The declared interim analyses and seeds, and how many of the first seeds have ended in every arm."""

    interim: list[int]
    seeds: list[int]
    complete: int

    @classmethod
    def read(cls, document: Declared, arms: Sequence[Trained], pairs: Pairs, expected: int | None) -> _Analyses:
        seeds = document.all_seeds
        ended = {arm.label: {row.seed for row in arm.rows if row.ended} for arm in arms}
        # An arm without rows is missing here. Only the number of rows of the whole sweep shows that arms are missing.
        missing = any(name not in ended for pair in pairs for name in pair)
        missing |= expected is not None and expected // len(seeds) > len(arms)
        in_all = [not missing and all(seed in found for found in ended.values()) for seed in seeds]
        return cls(document.comparing.interim or [], seeds, [*in_all, False].index(False))

    @property
    def taken(self) -> int | None:
        return max((at for at in self.interim if at <= self.complete), default=None)

    @property
    def next(self) -> int | None:
        return min((at for at in self.interim if at > self.complete), default=None)

    def before(self) -> str:
        """Say that no interim analysis has been done yet."""
        so_far = (
            f"The first interim analysis is at {self.interim[0]} seeds, and {self.complete} have ended in every arm"
        )
        return f"{so_far}: nothing is compared before."

    def since(self, analysis: sequential.Analysis) -> list[str]:
        """Say which seeds have ended since an interim analysis, if any."""
        if self.complete <= analysis.at:
            return []
        so_far = f"{self.complete} seeds have ended in every arm"
        if analysis.stop:
            return [f"{so_far}; the seeds after those of the interim analysis are not used."]
        return [f"{so_far}; the next interim analysis is at {self.next} seeds, and the new seeds are not used before."]

    def shown(self, analysis: sequential.Analysis) -> Interim:
        """Return an interim analysis with the state of all interim analyses."""
        return Interim(
            declared=tuple(self.interim),
            at=analysis.at,
            number=analysis.number,
            complete=self.complete,
            next=None if analysis.stop else self.next,
            stop=analysis.stop,
            next_seeds=analysis.next_seeds,
            alpha_spent=analysis.alpha_spent,
            sentence=analysis.sentence,
        )
