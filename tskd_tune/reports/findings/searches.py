"""Searched runs and groups of replicates, and their curves.

A replicate that has ended and found nothing is a result: leaving it out would favour the method that breaks (Dodge et
al. 2019 report every search). So it counts, and each of its trials has the worst value that was seen.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from tskd_tune.errors import InputError
from tskd_tune.metrics import Metric, Mode, metric_of
from tskd_tune.paths import in_shell
from tskd_tune.records.entries.conclusion import conclusion
from tskd_tune.records.entries.replicate import Replicate, first_declared
from tskd_tune.records.entries.row import Row
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.reports.findings.arms import gathered
from tskd_tune.reports.findings.comparison import Headline
from tskd_tune.reports.findings.frozen import NOT_FROZEN, Frozen
from tskd_tune.reports.findings.measures import measures_of
from tskd_tune.reports.findings.replicates import missing, unlike
from tskd_tune.reports.findings.search_curve import (
    SearchCurve,
    SearchTrials,
    all_trials,
    curve_of,
    worst_of,
)
from tskd_tune.reports.findings.summary import document_of, protocol_of, searched_by
from tskd_tune.reports.judge.words import runs_of
from tskd_tune.words import count


@dataclass(frozen=True)
class OneSearch:
    """A searched run.

    Attributes:
        run: the name of the run.
        id: tells the run from others of this name; a copy of the run has the same.
        place: its folder or address.
        number: the number among the replicates; 1 for a run that is no replicate.
        replicate: the place among the replicates; None for a run that is no replicate.
        created: when the run was made, as ISO 8601.
        trials: the values of the trials.
        seeds: the seed of the searcher, and the seeds of the trainings in ascending order.
        whole: whether the search has ended.
        seconds: the mean training time of a trial, over all its seeds.
        tasks: each task of the trials, as text.
        measures: the metrics that the rows declare.
        protocol: what is said of its protocol and of what contradicts its rows.
    """

    run: str
    id: str
    place: str
    number: int
    replicate: Replicate | None
    created: str
    trials: SearchTrials
    seeds: tuple[int, tuple[int, ...]]
    whole: bool
    seconds: float
    tasks: frozenset[str]
    measures: tuple[Metric, ...]
    protocol: Frozen = NOT_FROZEN

    @property
    def counts(self) -> bool:
        """Whether the search has ended and has a trial."""
        return self.whole and bool(self.trials.values)


@dataclass(frozen=True)
class Method:
    """A method that was searched once or several times.

    Attributes:
        name: the name of the run, or of the group of replicates.
        place: the folder or the address of the run, or that the group would have.
        searches: the searches that count, by number.
        notes: sentences on searches that do not count: they have not ended, have no trial, or are missing.
        added: says that replicates were added when there were results; empty where none were, or nobody knows.
    """

    name: str
    place: str
    searches: tuple[OneSearch, ...]
    notes: tuple[str, ...]
    added: str = ""

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
    def empty(self) -> list[OneSearch]:
        """The searches that have ended and found nothing: no trial has a value."""
        return [search for search in self.searches if not search.trials.known]

    @property
    def doubts(self) -> list[str]:
        """What is said of the protocols of the searches."""
        return [f"{search.run}: {said}" for search in self.searches for said in search.protocol.said]

    @property
    def edited(self) -> list[str]:
        """The searches whose declaration or values were changed after there were results."""
        return [search.run for search in self.searches if search.protocol.exploratory]

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
    """Read a searched run, or the replicates of a search; of several, those count that have ended and have a trial.

    Raises:
        InputError: a run is no search or has no value, or no replicate has ended or found anything.
        RunError: the records of a run cannot be read.
    """
    found = [_one(folder) for folder in folders]
    place = str(folders[0].place.parent / name)
    if len(found) == 1:
        (one,) = found
        _refuse_empty(one)
        so_far = f"{one.run} has not ended; it has {count(len(one.trials.values), 'trial')} so far."
        notes = [*([] if one.whole else [so_far]), *(missing(folders) if name != one.run else [])]
        return Method(name, place, (one,), tuple(notes))
    differing = {(search.trials.metric, search.trials.mode) for search in found if search.trials.values}
    if len(differing) > 1:
        raise InputError(f"{name}: its replicates were searched by different metrics: {metrics_text(differing)}")
    counting = tuple(search for search in found if search.counts)
    if not counting:
        named = ", ".join(search.run for search in found)
        raise InputError(f"{name}: no replicate has ended ({named}); finish one with `tskd-tune resume`")
    if not any(search.trials.known for search in counting):
        raise InputError(
            f"{name}: {count(len(counting), 'replicate')} ended ({', '.join(search.run for search in counting)}), and"
            " no trial of them has a value of the search's metric: nothing is best, and a difference to another search"
            f" has no size. This is a result to report; `tskd-tune report {in_shell(counting[0].place)}` says why its"
            " trials failed, and a space in which trainings do not fail needs another --name"
        )
    first = first_declared([(search.created, search.replicate) for search in found])
    return Method(name, place, counting, tuple(_left_out(name, found, folders)), _added(name, found, first))


def _added(name: str, found: Sequence[OneSearch], first: int | None) -> str:
    """Say which replicates were added to those that the group was to have at its start."""
    later = [search.number for search in found if first is not None and search.number > first]
    if not later:
        return ""
    were = "replicate was" if len(later) == 1 else "replicates were"
    return (
        f"'{name}' was begun with {count(first or 0, 'replicate')}, and {len(later)} more {were} added when there were"
        f" results ({name}-{runs_of(later)})"
    )


def _left_out(name: str, found: Sequence[OneSearch], folders: Sequence[RunFolder]) -> list[str]:
    """Say which replicates do not count, and what to do."""
    open_ = [search.run for search in found if not search.whole]
    said = [*missing(folders), *unlike(folders)]
    named = "replicate that has not ended is" if len(open_) == 1 else "replicates that have not ended are"
    said += [f"{name}: the {named} left out: {', '.join(open_)}."] if open_ else []
    return said + [
        f"{name}: {search.run} is left out: it ended before one of its trials did; go on with `tskd-tune resume"
        f" {search.place} --hours HOURS`."
        for search in found
        if search.whole and not search.counts
    ]


def _refuse_empty(search: OneSearch) -> None:
    """Refuse a single search without a value.

    Raises:
        InputError: no trial has a value.
    """
    if search.trials.known:
        return
    if search.counts:
        raise InputError(
            f"{search.place}: has ended, and no trial has a value of the search's metric: nothing is best; `tskd-tune"
            f" report {search.place}` says why its trials failed"
        )
    raise InputError(
        f"{search.place}: no trial has a value of the search's metric on the validation set yet; finish the run:"
        f" tskd-tune resume {in_shell(search.place)}{' --hours HOURS' if search.whole else ''}"
    )


def nothing_found(found: Method, whose: str) -> list[str]:
    """Say which replicates found nothing, and how they count; ``whose`` names the searches of the worst value."""
    runs = [search.run for search in found.empty]
    if not runs:
        return []
    one = len(runs) == 1
    return [
        f"{found.name}: {', '.join(runs)} ended and found nothing: no trial of {'it' if one else 'them'} has a value."
        f" {'It counts' if one else 'They count'}, each trial with the worst value of {whose}, because leaving"
        f" {'it' if one else 'them'} out would favour a method that breaks."
    ]


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
    seconds = [sum(row.cost.seconds for row in trial) for trial in gathered(rows, searched=True)]
    searched = searched_by(document, measures)
    return OneSearch(
        run=folder.name,
        id=folder.state.id or str(folder.place.absolute()),
        place=str(folder.place),
        number=1 if replicate is None else replicate.number,
        replicate=replicate,
        created=folder.state.created,
        trials=all_trials(searched, document, rows) or SearchTrials("", "max", independent=False, values=()),
        seeds=(document.search.seed, tuple(sorted(document.all_seeds))),
        whole=(expected is not None and ended >= expected) or bool(conclusion(folder.store)),
        seconds=statistics.fmean(seconds) if seconds else 0.0,
        tasks=frozenset(map(_task, rows)),
        measures=measures,
        protocol=protocol_of(folder, Headline(searched.metric, metric_of(searched.metric, measures)), rows)
        if searched
        else NOT_FROZEN,
    )


def _task(row: Row) -> str:
    return json.dumps(row.experiment.get("task"), sort_keys=True)


def metrics_text(found: set[tuple[str, Mode]]) -> str:
    """Return metrics with their modes: ``val_accuracy (max), val_loss (min)``."""
    return ", ".join(f"{metric} ({mode})" for metric, mode in sorted(found))
