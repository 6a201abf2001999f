"""The curve of a search: the best validation value of n trials, of one search or over its replicates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tskd_tune.metrics import Measured, Metric, Mode, metric_of
from tskd_tune.records.entries.row import Row
from tskd_tune.reports.findings.arms import gathered
from tskd_tune.reports.findings.declared import Declared
from tskd_tune.reports.findings.pareto import Searched
from tskd_tune.reports.findings.scale import MARK, cut
from tskd_tune.reports.judge.best_of import INTERVAL_TO, BestOf, Kind, Trials, best_of, filled
from tskd_tune.words import count

MOST_COUNTS = 100
"""A curve has at most so many points; of more trials, the numbers of trials grow by a constant factor."""


@dataclass(frozen=True)
class SearchTrials:
    """The trials of one search.

    Attributes:
        metric: the metric on the validation set that the search compares, as named in rows.
        mode: ``max`` where a larger value is better, ``min`` where a smaller one is.
        independent: whether the trials were drawn independently of results.
        values: for each trial in its order, the mean over its seeds; None where a seed has no final value.
        also: the other objectives of the search.
    """

    metric: str
    mode: Mode
    independent: bool
    values: tuple[float | None, ...]
    also: tuple[str, ...] = ()

    @property
    def known(self) -> list[float]:
        """The values of the trials that have one."""
        return [value for value in self.values if value is not None]


@dataclass(frozen=True)
class SearchCurve:
    """The best of n trials.

    Attributes:
        metric: the metric on the validation set, as named in rows.
        mode: ``max`` where a larger value is better, ``min`` where a smaller one is.
        kind: ``expected`` for the mean over all subsets of n trials, ``running`` for the best of the first n trials.
        searches: the number of searches; the curve is the mean over these.
        trials: the number of trials of each search that count.
        most_trials: the largest number of trials of a search.
        without_value: how many of the trials that count have no value; each has the value ``worst``.
        worst: the worst value of all trials.
        also: the other objectives of the search, which the curve leaves out.
        points: the best of n trials for each n, with a 95 % interval where there is one.
    """

    metric: str
    mode: Mode
    kind: Kind
    searches: int
    trials: int
    most_trials: int
    without_value: int
    worst: float
    also: tuple[str, ...]
    points: tuple[BestOf, ...]


def search_trials(search: Searched | None, document: Declared, rows: Sequence[Row]) -> SearchTrials | None:
    """Return the trials of a search as `all_trials` does; None also where no trial has a value."""
    found = all_trials(search, document, rows)
    return found if found is not None and found.known else None


def all_trials(search: Searched | None, document: Declared, rows: Sequence[Row]) -> SearchTrials | None:
    """Return the trials of a search by its first metric; None for a grid, and for a metric of another set.

    A trial that the end of the sweep's budget cut off is no trial.

    Args:
        search: the objectives of the search; None for a grid.
        document: the resolved document of the sweep.
        rows: the rows of the search.
    """
    measured = None if search is None else Measured.read(search.metric)
    if search is None or measured is None or measured.part != "validation":
        return None
    trials = [trial for trial in gathered(rows, searched=True) if not any(row.cut for row in trial)]
    ordered = sorted(trials, key=lambda trial: trial[0].run)
    values = tuple(_value(trial, search.metric, len(document.all_seeds)) for trial in ordered)
    also = tuple(name for name in search.objectives or () if name != search.metric)
    return SearchTrials(search.metric, search.mode, document.draws_independently, values, also)


def _value(rows: Sequence[Row], metric: str, seeds: int) -> float | None:
    done = [value for row in rows if row.status == "done" and (value := row.metrics.get(metric)) is not None]
    return math.fsum(done) / len(done) if done and len(done) >= max(seeds, len(rows)) else None


def trials_of(searches: Sequence[SearchTrials], numbers: Sequence[int], worst: float, most: int) -> Trials:
    """Return the first ``most`` trials of searches; a trial without a value has the value ``worst``.

    The draws count as independent only if those of every search are.
    """
    return Trials(
        values=tuple(filled(search.values[:most], worst) for search in searches),
        independent=all(search.independent for search in searches),
        mode=searches[0].mode,
        numbers=tuple(numbers),
    )


def worst_of(searches: Sequence[SearchTrials]) -> float:
    """Return the worst value of all trials."""
    known = [value for search in searches for value in search.known]
    return min(known) if searches[0].mode == "max" else max(known)


def curve_of(searches: Sequence[SearchTrials], worst: float | None = None) -> SearchCurve | None:
    """Return the curve of a search, or of replicates of a search; None without a search.

    Where replicates differ in length, the first trials of each count, as many as the shortest has.

    Args:
        searches: the trials of each search.
        worst: the value of a trial without a value; None: the worst value of these searches.
    """
    if not searches:
        return None
    lengths, first = [len(search.values) for search in searches], searches[0]
    worst = worst_of(searches) if worst is None else worst
    trials = trials_of(searches, range(1, len(searches) + 1), worst, min(lengths))
    return SearchCurve(
        metric=first.metric,
        mode=first.mode,
        kind=trials.kind,
        searches=len(searches),
        trials=trials.most,
        most_trials=max(lengths),
        without_value=sum(value is None for search in searches for value in search.values[: trials.most]),
        worst=worst,
        also=first.also,
        points=tuple(best_of(trials, counts_to(trials.most))),
    )


def counts_to(most: int) -> list[int]:
    """Return the numbers of trials of a curve: all of them, or a hundred that grow by a constant factor."""
    if most <= MOST_COUNTS:
        return list(range(1, most + 1))
    return sorted({round(most ** (place / (MOST_COUNTS - 1))) for place in range(MOST_COUNTS)})


def milestones(counts: Sequence[int]) -> list[int]:
    """Return the numbers of trials that a table shows: about 1, 2, 4, 8 and so on, and the last.

    >>> milestones(range(1, 25))
    [1, 2, 4, 8, 16, 24]
    """
    powers = [2**place for place in range(counts[-1].bit_length())]
    return sorted({*(next(n for n in counts if n >= power) for power in powers), counts[-1]})


# Words


def lines(found: SearchCurve | None, metrics: Sequence[Metric]) -> list[str]:
    """Return a curve in sentences: the best of 1, 2, 4, 8 and so on trials, and how the curve is to be read.

    Args:
        found: the curve; None gives no sentence.
        metrics: the metrics that the rows of the run declare.
    """
    if found is None:
        return []
    metric = metric_of(found.metric, metrics)
    shown = set(milestones([point.n for point in found.points]))
    of = [point_text(point, metric) for point in found.points if point.n in shown]
    return [f"{title(found)}, {found.metric}: {'; '.join(of)}.", *notes(found, metric)]


def title(found: SearchCurve) -> str:
    """Return what a curve shows, in words."""
    best = "Expected best of n trials" if found.kind == "expected" else "Best of the first n trials"
    return f"{best}, mean over {found.searches} replicates" if found.searches > 1 else best


def point_text(point: BestOf, metric: Metric) -> str:
    """Return ``n = 4: 71.20 % (70.10 to 72.30)``: the best of n trials with its interval, if there is one.

    An interval beyond the scale of a percentage is cut at the end and marked.
    """
    ends = ends_of(point, metric)
    mark = MARK if _is_beyond(point, metric) else ""
    words = f" ({ends[0]:.{metric.digits}f} to {ends[1]:.{metric.digits}f}{mark})" if ends else ""
    return f"n = {point.n}: {metric.text(point.value)}{words}"


def ends_of(point: BestOf, metric: Metric) -> tuple[float, float] | None:
    """Return the ends of an interval, cut at the bounds of the metric; None without an interval."""
    if point.low is None or point.high is None:
        return None
    return cut(point.low, point.high, metric.bounds) if metric.bounds else (point.low, point.high)


def _is_beyond(point: BestOf, metric: Metric) -> bool:
    return ends_of(point, metric) not in (None, (point.low, point.high))


def notes(found: SearchCurve, metric: Metric) -> list[str]:
    """Return how a curve is to be read, and which trials it counts."""
    said = [_basis(found), "These are validation values, which chose the best trial: the best looks better than it is."]
    if found.also:
        said.append(f"Other objectives of the search, which this curve leaves out: {', '.join(found.also)}.")
    if found.without_value:
        said.append(
            f"{found.without_value} of {count(found.searches * found.trials, 'trial')} without a final value (failed,"
            f" stopped or unfinished) count with the worst value that was seen, {metric.text(found.worst)}."
        )
    if any(_is_beyond(point, metric) for point in found.points):
        said.append(f"{MARK} Student's interval goes beyond 0 or 100 %, and is cut there: the values are too few.")
    if found.most_trials > found.trials:
        said.append(
            f"The searches have {found.trials} to {found.most_trials} trials; the first {found.trials} of each count."
        )
    return said


def _basis(found: SearchCurve) -> str:
    subsets = f"The mean over all subsets of n of the {count(found.trials, 'trial')}, which were drawn independently"
    if found.searches > 1:
        how = f"{subsets}, then over" if found.kind == "expected" else "The mean over"
        return f"{how} the replicates, each with its own seeds; 95 % intervals (Student's t) over replicates."
    if found.kind == "expected":
        most = found.trials // INTERVAL_TO
        return f"{subsets}; {f'95 % intervals of the jackknife up to n = {most}' if most else 'too few for intervals'}."
    return (
        "One search that learned from its trials, or stopped trials by results, has no interval: another search would"
        " take another course. Replicates give one: `tskd-tune sweep FILE --replicates 5`."
    )
