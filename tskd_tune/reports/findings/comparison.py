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
from typing import TypeAlias

from tskd_tune.metrics import PERCENT, Metric
from tskd_tune.records.row import Row
from tskd_tune.reports.findings.declared import Compare, Declared
from tskd_tune.reports.findings.endings import Counts
from tskd_tune.reports.findings.failures import Table, going_on, lost, lost_notes, withstood
from tskd_tune.reports.findings.grouping import alike
from tskd_tune.reports.findings.qualifications import Runs, qualifications
from tskd_tune.reports.findings.records import Setting, values_by_seed
from tskd_tune.reports.judge import sequential, verdicts
from tskd_tune.reports.judge.always_valid import Split
from tskd_tune.reports.judge.contrasts import MARGIN, Contrast
from tskd_tune.reports.judge.meta_analysis import Pooled, pooled
from tskd_tune.reports.judge.protocol import Protocol
from tskd_tune.reports.judge.records import Family
from tskd_tune.reports.judge.sentences import without_verdict

# Separates the parts of a point's label. The first part often names a teacher-student pair.
SEPARATOR = ", "

Pairs: TypeAlias = list[tuple[str, str]]


@dataclass(frozen=True)
class Trained:
    """One arm: its label, its task and student, its rows, at most one per seed, and the seeds that collapsed."""

    label: str
    setting: Setting
    reviewed: bool
    rows: Sequence[Row]
    collapsed: tuple[int, ...] = ()

    def values(self, metric: str) -> dict[int, float]:
        """Return seed -> the last epoch's value, for the seeds that are done and have a finite value."""
        return values_by_seed(self.rows, metric)


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


def compare(arms: Sequence[Trained], document: Declared, headline: Headline, expected: int | None) -> Comparison:
    """Compare the arms of a grid as the sweep's file declares, or by default.

    Args:
        arms: the arms with at least one row; each arm has a different label.
        document: the resolved sweep.
        headline: the metric by which the arms are compared.
        expected: the number of rows of the finished run, if known.

    Raises:
        InputError: the sweep's file was edited by hand, and its comparisons cannot be tested.
    """
    declared = document.comparing
    if len(arms) < 2:
        return Comparison(None, "One arm: there is nothing to compare it with." if arms else "No run has finished yet.")
    if declared.baseline not in {None, *(arm.label for arm in arms)}:
        return Comparison(None, f"The declared baseline '{declared.baseline}' has no finished run yet.")
    pairs, how = _pairs(arms, declared)
    if not pairs:
        return Comparison(None, "No two arms share a task and a student; declare what to compare under compare.pairs.")
    values: dict[str, dict[int, float]] = {name: {} for pair in pairs for name in pair} | {
        arm.label: arm.values(headline.name) for arm in arms
    }
    rows = {arm.label: arm.rows for arm in arms}
    runs = {arm.label: Runs(arm.rows, values[arm.label], arm.collapsed) for arm in arms}
    notes = (
        f"{how} {_unfinished(arms, expected)}".strip(),
        *_rule_note(document),
        *lost_notes(rows, pairs, headline.name),
    )
    metric = headline.metric
    table, doubts = Table(values, pairs, {}), qualifications(runs, pairs, declared, metric)
    if not declared.interim:

        def judged(table: Table) -> Family:
            return _judged(document, arms, table, headline)

        found = withstood(table, judged, lost(rows, headline.name), doubts, metric)
        # The pooled tests are not corrected for seeds that were added.
        members = {} if declared.added else _members([finding.contrast for finding in found.findings], arms)
        told = tuple(filter(None, [found.exploratory, *notes, *without_verdict(found)]))
        return Comparison(Verdicts(found, tuple(pooled(members, metric)), how, told, None))
    state = _Analyses.read(document, arms, pairs, expected)
    if state.taken is None:
        return Comparison(None, state.before())

    def analyzed(table: Table) -> sequential.Analysis:
        return _analyzed(declared, state, table, headline)

    gone = lost(rows, headline.name, state.seeds[: state.taken])
    family = withstood(table, lambda table: analyzed(table).family, gone, doubts, metric)
    analysis = going_on(analyzed(table), family, state.seeds)
    told = (analysis.sentence, *state.since(analysis), *notes, *without_verdict(family))
    # The pooled tests are not corrected for interim analyses, so nothing is pooled.
    return Comparison(Verdicts(family, (), how, told, state.shown(analysis)))


def _judged(document: Declared, arms: Sequence[Trained], table: Table, headline: Headline) -> Family:
    """Judge a table without interim analyses: from its first verdict on, or by one test."""
    declared = document.comparing
    margin, metric = headline.margin(declared.margin), headline.metric
    if declared.sequential != "split":
        protocol = Protocol(by=declared.rule, exploratory=document.exploratory)
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
    )


def _analyzed(declared: Compare, state: _Analyses, table: Table, headline: Headline) -> sequential.Analysis:
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
    )


def _pairs(arms: Sequence[Trained], declared: Compare) -> tuple[Pairs, str]:
    """Return (arm, baseline) for each comparison, and a sentence on who chose the comparisons."""
    if declared.pairs:
        return [(arm, baseline) for arm, baseline in declared.pairs], "The contrasts are those of the sweep file."
    named, controls = declared.baseline, declared.controls or {}
    pairs, baselines = [], []
    for group in alike(arms, _setting):
        compared = [arm for arm in group if arm.label not in controls]
        base = next((arm for arm in compared if arm.label == named), None) or _first_plain(compared or group)
        found = [(arm.label, base.label) for arm in compared if arm is not base]
        pairs += found
        baselines += [base] if found else []
    there = {arm.label for arm in arms}
    ladder = [(arm, control) for control, arm in controls.items() if {arm, control} <= there]
    return [*pairs, *ladder], " ".join(filter(None, [_said_of(baselines, named), _said_of_controls(ladder)]))


def _setting(arm: Trained) -> Setting:
    return arm.setting


def _first_plain(group: Sequence[Trained]) -> Trained:
    return next((arm for arm in group if not arm.reviewed), group[0])


def _said_of_controls(ladder: Pairs) -> str:
    controlled = list(dict.fromkeys(f"'{arm}'" for arm, _ in ladder))
    verb, whose = ("is", "its") if len(controlled) == 1 else ("are", "their")
    return f"{', '.join(controlled)} {verb} compared with {whose} controls." if ladder else ""


def _said_of(baselines: Sequence[Trained], named: str | None) -> str:
    if not baselines:
        return ""
    names = ", ".join(f"'{base.label}'" for base in baselines)
    if [base.label for base in baselines] == [named]:
        return f"Every arm is compared with {names}, as the sweep file says."
    within = " of its task and student" if len(baselines) > 1 else ""
    what = "the first arm" if any(base.reviewed for base in baselines) else "the first arm without a review"
    return f"Every arm is compared with {what}{within}: {names}."


# One method in several groups


def _members(contrasts: Sequence[Contrast], arms: Sequence[Trained]) -> dict[str, list[Contrast]]:
    """Gather the contrasts of one method with one baseline over several groups, by the labels within each group."""
    methods = {name: method for group in alike(arms, _setting) for name, method in _methods(group).items()}
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


def _unfinished(arms: Sequence[Trained], expected: int | None) -> str:
    counts = Counts.over([row for arm in arms for row in arm.rows], expected, 0)
    return "" if counts.all_finished else f"{counts.of_expected} have ended: nothing here is final."


# Interim analyses


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
