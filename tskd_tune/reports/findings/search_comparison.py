"""Two searched methods at equal numbers of trials: the differences, a decision, and how they are to be read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from tskd_tune.errors import InputError
from tskd_tune.metrics import Mode
from tskd_tune.reports.findings.search_curve import SearchCurve, counts_to, trials_of, worst_of
from tskd_tune.reports.findings.searches import Method, metrics_text, nothing_found
from tskd_tune.reports.judge import power
from tskd_tune.reports.judge.best_of import Difference, Trials, difference
from tskd_tune.reports.judge.records import LEAST_SEEDS
from tskd_tune.reports.judge.sentences import LOWER
from tskd_tune.reports.judge.words import difference_text, signed

Decision = Literal["resolved", "undecided"]


@dataclass(frozen=True)
class SearchComparison:
    """Two searched methods at equal numbers of trials.

    Attributes:
        ours: the name of the one method.
        theirs: the name of the other.
        metric: the metric on the validation set that both searched.
        mode: ``max`` where a larger value is better, ``min`` where a smaller one is.
        trials: the number of trials at which the methods are tested: the largest that every search has.
        points: ``ours`` minus ``theirs`` at each number of trials.
        decision: ``resolved`` or ``undecided``; None where there are too few replicates, or not all of them count.
        exploratory: why the verdict is exploratory, as a sentence; empty where it is not, or there is no verdict.
        sentence: the difference at ``trials``, and the decision in words.
        notes: sentences on how the comparison is to be read.
        curves: the curve of each method, ours first.
    """

    ours: str
    theirs: str
    metric: str
    mode: Mode
    trials: int
    points: tuple[Difference, ...]
    decision: Decision | None
    exploratory: str
    sentence: str
    notes: tuple[str, ...]
    curves: tuple[SearchCurve, SearchCurve]


def compared(ours: Method, theirs: Method) -> SearchComparison:
    """Compare two searched methods at each number of trials that every search has.

    Trials without a value count with the worst value of both methods, also where a replicate has no other trials.

    Raises:
        InputError: the methods were searched by different metrics, or are the same run.
    """
    if {search.id for search in ours.searches} & {search.id for search in theirs.searches}:
        raise InputError(f"--against: '{theirs.name}' has a run in common with '{ours.name}'; give another search")
    if ours.name == theirs.name:
        ours, theirs = replace(ours, name=ours.place), replace(theirs, name=theirs.place)
    metrics = {(each.curve.metric, each.curve.mode) for each in (ours, theirs)}
    if len(metrics) > 1:
        raise InputError(
            f"--against: '{ours.name}' and '{theirs.name}' were searched by different metrics"
            f" ({metrics_text(metrics)}); two searches are compared by one metric; search both with the"
            " same search.metric and search.mode"
        )
    most = min(ours.curve.trials, theirs.curve.trials)
    worst = worst_of([*ours.trials, *theirs.trials])
    points = difference(
        _trials(ours, worst), _trials(theirs, worst), counts_to(most), paired=ours.seeds == theirs.seeds
    )
    decision, words = _decided(ours, theirs, points[-1])
    return SearchComparison(
        ours=ours.name,
        theirs=theirs.name,
        metric=ours.curve.metric,
        mode=ours.curve.mode,
        trials=most,
        points=tuple(points),
        decision=decision,
        exploratory=_exploratory(ours, theirs) if decision else "",
        sentence=f"{_measured(ours, theirs, points[-1])} {words}",
        notes=tuple(_notes(ours, theirs, most)),
        curves=(ours.curve_with(worst), theirs.curve_with(worst)),
    )


def _trials(one: Method, worst: float) -> Trials:
    return trials_of(one.trials, [search.number for search in one.searches], worst, one.curve.trials)


# Words


def _measured(ours: Method, theirs: Method, last: Difference) -> str:
    metric, searches = ours.metric, [len(each.searches) for each in (ours, theirs)]
    how = [LOWER] if metric.mode == "min" else []
    if last.low is not None and last.high is not None:
        how.append(f"95 % interval {signed(last.low, metric)} to {signed(last.high, metric)}")
    how.append(f"{searches[0]} and {searches[1]} {'search' if max(searches) == 1 else 'replicates'}")
    how += ["paired"] if last.paired else ["unpaired"] if min(searches) > 1 else []
    return (
        f"'{ours.name}' against '{theirs.name}', best {ours.curve.metric} of {last.n} trials each:"
        f" {difference_text(last.value, metric)} ({', '.join(how)})."
    )


def _decided(ours: Method, theirs: Method, last: Difference) -> tuple[Decision | None, str]:
    """Decide at the largest number of trials, with five replicates of each method or more."""
    if max(len(ours.searches), len(theirs.searches)) > 1 and (ours.notes or theirs.notes):
        return None, "No verdict: not all replicates count, so first finish or restore those that the notes name."
    if min(len(ours.searches), len(theirs.searches)) < LEAST_SEEDS:
        return None, (
            f"No verdict: a verdict needs {LEAST_SEEDS} replicates of each search or more (`tskd-tune sweep FILE"
            f" --replicates {LEAST_SEEDS}`)."
        )
    if last.excludes_zero:
        better = ours if (last.value > 0) == (ours.curve.mode == "max") else theirs
        if better.empty:
            # The size of the difference rests on a value that was not measured. This only takes verdicts away.
            runs = ", ".join(search.run for search in better.empty)
            return "undecided", (
                f"Undecided: '{better.name}' is ahead, but found nothing in {runs}, and how bad that is no value says."
            )
        mark = " (exploratory)" if _exploratory(ours, theirs) else ""
        return "resolved", f"Resolved{mark}: '{better.name}' is better at this budget."
    why = "the interval contains 0" if last.low is not None else "the replicates do not vary, so there is no test"
    return "undecided", f"Undecided: {why}; this does not mean that there is no difference."


def _exploratory(ours: Method, theirs: Method) -> str:
    why = [each.added for each in (ours, theirs) if each.added]
    if edited := [run for each in (ours, theirs) for run in each.edited]:
        why.append(f"what was declared or measured was changed after there were results ({', '.join(edited)})")
    if not why:
        return ""
    return (
        f"The verdict is exploratory: {' and '.join(why)}, so false verdicts may be more frequent than"
        f" {100 * power.ALPHA:g} %. To confirm it, search both methods again under other names, with a number of"
        " replicates that is chosen before."
    )


def _notes(ours: Method, theirs: Method, most: int) -> list[str]:
    said = ["Only the last number of trials is tested; the differences at smaller numbers are shown."]
    said.append(
        f"The budget is the number of trials. A trial took {ours.seconds:.1f} s of training in '{ours.name}' and"
        f" {theirs.seconds:.1f} s in '{theirs.name}'."
    )
    if ours.per_trial != theirs.per_trial:
        said.append(f"A trial has {ours.per_trial} seeds in '{ours.name}' and {theirs.per_trial} in '{theirs.name}'.")
    for each in (ours, theirs):
        if each.curve.most_trials > most:
            said.append(f"'{each.name}' has more trials, {each.curve.most_trials}; it is compared at up to {most}.")
    if ours.curve.kind != theirs.curve.kind:
        drawn = ours if ours.curve.kind == "expected" else theirs
        said.append(f"Only the trials of '{drawn.name}' were drawn independently, so only its curve uses all subsets.")
    tasks = [frozenset().union(*(search.tasks for search in each.searches)) for each in (ours, theirs)]
    if tasks[0] != tasks[1]:
        said.append("The tasks of the two searches differ, so the difference is not one of methods alone.")
    empty = [f"{each.curve.without_value} in '{each.name}'" for each in (ours, theirs) if each.curve.without_value]
    if empty:
        said.append(f"Trials without a final value ({', '.join(empty)}) count with the worst value of both searches.")
    if min(len(ours.searches), len(theirs.searches)) >= LEAST_SEEDS and not (ours.added or theirs.added):
        said.append(
            "The test is for a number of replicates that was chosen before: replicates that are added until a"
            " difference is resolved raise the rate of false verdicts above 5 %."
        )
    nothing = [one for each in (ours, theirs) for one in nothing_found(each, "both searches")]
    return [*said, *nothing, *ours.notes, *theirs.notes, *ours.doubts, *theirs.doubts]
