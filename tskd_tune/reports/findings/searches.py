"""Searched runs and groups of replicates: their curves, and two methods compared at equal numbers of trials."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from tskd_tune.errors import InputError
from tskd_tune.metrics import Metric, Mode, metric_of
from tskd_tune.records.conclusion import conclusion
from tskd_tune.records.row import Row
from tskd_tune.records.run_folder import RunFolder
from tskd_tune.reports.findings.arms import gathered
from tskd_tune.reports.findings.replicates import missing, unlike
from tskd_tune.reports.findings.search_curve import (
    SearchCurve,
    SearchTrials,
    counts_to,
    curve_of,
    search_trials,
    trials_of,
    worst_of,
)
from tskd_tune.reports.findings.summary import document_of, measures_of, searched_by
from tskd_tune.reports.judge.best_of import Difference, Trials, difference
from tskd_tune.reports.judge.records import LEAST_SEEDS
from tskd_tune.reports.judge.sentences import LOWER
from tskd_tune.reports.judge.words import count, difference_text, signed

Decision = Literal["resolved", "undecided"]


@dataclass(frozen=True)
class OneSearch:
    """A searched run.

    Attributes:
        run: the name of the run.
        id: tells the run from others of this name; a copy of the run has the same.
        number: the number among the replicates; 1 for a run that is no replicate.
        trials: the values of the trials.
        seeds: the seed of the searcher and the seeds of the trainings.
        whole: whether the search has ended.
        seconds: the mean training time of a trial, over all its seeds.
        tasks: each task of the trials, as text.
        measures: the metrics that the rows declare.
    """

    run: str
    id: str
    number: int
    trials: SearchTrials
    seeds: tuple[int, tuple[int, ...]]
    whole: bool
    seconds: float
    tasks: frozenset[str]
    measures: tuple[Metric, ...]


@dataclass(frozen=True)
class Method:
    """A method that was searched once or several times.

    Attributes:
        name: the name of the run, or of the group of replicates.
        place: the folder or the address of the run, or that the group would have.
        searches: the searches that count, by number.
        notes: sentences on searches that have not ended, and on replicates that are missing.
    """

    name: str
    place: str
    searches: tuple[OneSearch, ...]
    notes: tuple[str, ...]

    @property
    def trials(self) -> list[SearchTrials]:
        """The trials of each search that counts."""
        return [search.trials for search in self.searches]

    @cached_property
    def curve(self) -> SearchCurve:
        """The curve of the search, or the mean curve of the replicates."""
        return self.curve_with(worst_of(self.trials))

    def curve_with(self, worst: float) -> SearchCurve:
        """Return the curve where a trial without a value has the value ``worst``."""
        found = curve_of(self.trials, worst)
        assert found is not None  # a method has a search
        return found

    @property
    def metric(self) -> Metric:
        """The metric that was searched."""
        return metric_of(self.curve.metric, self.searches[0].measures)

    @property
    def seeds(self) -> list[tuple[int, tuple[int, ...]]]:
        """The seeds of each search."""
        return [search.seeds for search in self.searches]

    @property
    def per_trial(self) -> int:
        """The number of seeds of a trial."""
        return len(self.searches[0].seeds[1])

    @property
    def seconds(self) -> float:
        """The mean training time of a trial."""
        return statistics.fmean(search.seconds for search in self.searches)


def method(name: str, folders: Sequence[RunFolder]) -> Method:
    """Read a searched run, or the replicates of a search; of several, only those that have ended count.

    Raises:
        InputError: a run is no search or has no value, or no replicate has ended.
        RunError: the records of a run cannot be read.
    """
    found = [_one(folder) for folder in folders]
    place = str(folders[0].place.parent / name)
    differing = {(search.trials.metric, search.trials.mode) for search in found}
    if len(differing) > 1:
        raise InputError(f"{name}: its replicates were searched by different metrics: {_metrics(differing)}")
    open_ = [search.run for search in found if not search.whole]
    if len(found) == 1:
        notes = (
            [f"{open_[0]} has not ended; it has {count(len(found[0].trials.values), 'trial')} so far."] if open_ else []
        )
        notes += missing(folders) if name != found[0].run else []
        return Method(name, place, tuple(found), tuple(notes))
    whole = tuple(search for search in found if search.whole)
    if not whole:
        raise InputError(f"{name}: no replicate has ended ({', '.join(open_)}); finish one with `tskd-tune resume`")
    notes = [*missing(folders), *unlike(folders)]
    named = "replicate that has not ended is" if len(open_) == 1 else "replicates that have not ended are"
    notes += [f"{name}: the {named} left out: {', '.join(open_)}."] if open_ else []
    return Method(name, place, whole, tuple(notes))


def _one(folder: RunFolder) -> OneSearch:
    rows = sorted(folder.rows(), key=lambda row: row.key)
    document, damaged = document_of(folder)
    if damaged:
        raise InputError(damaged)
    measures = measures_of(rows)
    if not document.is_search or document.search is None:
        raise InputError(
            f"{folder.place}: is no search, so it has no best of n trials; give the run of a sweep that searches with"
            " random or optuna"
        )
    ended, expected, replicate = sum(row.ended for row in rows), folder.state.expected, folder.state.replicate
    whole = (expected is not None and ended >= expected) or bool(conclusion(folder.store))
    trials = search_trials(searched_by(document, measures), document, rows)
    if trials is None and whole:
        raise InputError(f"{folder.place}: has ended, and no trial has a value of the search's metric: nothing is best")
    if trials is None:
        raise InputError(
            f"{folder.place}: no trial has a value of the search's metric on the validation set yet; finish the run:"
            f" tskd-tune resume {folder.place}"
        )
    return OneSearch(
        run=folder.name,
        id=folder.state.id or str(folder.place.absolute()),
        number=1 if replicate is None else replicate.number,
        trials=trials,
        seeds=(document.search.seed, tuple(document.all_seeds)),
        whole=whole,
        seconds=statistics.fmean(sum(row.cost.seconds for row in trial) for trial in gathered(rows, searched=True)),
        tasks=frozenset(map(_task, rows)),
        measures=measures,
    )


def _task(row: Row) -> str:
    return json.dumps(row.experiment.get("task"), sort_keys=True)


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
    sentence: str
    notes: tuple[str, ...]
    curves: tuple[SearchCurve, SearchCurve]


def compared(ours: Method, theirs: Method) -> SearchComparison:
    """Compare two searched methods at each number of trials that every search has.

    Trials without a value count with the worst value of both methods.

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
            f"--against: '{ours.name}' and '{theirs.name}' were searched by different metrics ({_metrics(metrics)});"
            " two searches are compared by one metric; search both with the same search.metric and search.mode"
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
        return "resolved", f"Resolved: '{better.name}' is better at this budget."
    why = "the interval contains 0" if last.low is not None else "the replicates do not vary, so there is no test"
    return "undecided", f"Undecided: {why}; this does not mean that there is no difference."


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
    if min(len(ours.searches), len(theirs.searches)) >= LEAST_SEEDS:
        said.append(
            "The test is for a number of replicates that was chosen before: replicates that are added until a"
            " difference is resolved raise the rate of false verdicts above 5 %."
        )
    return [*said, *ours.notes, *theirs.notes]


def _metrics(found: set[tuple[str, Mode]]) -> str:
    return ", ".join(f"{metric} ({mode})" for metric, mode in sorted(found))
