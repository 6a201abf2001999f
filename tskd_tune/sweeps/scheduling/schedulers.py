"""Schedulers stop trials that are behind the others; each has a name and options.

Ray is imported when a factory runs, so that a sweep can be read and checked without Ray.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from math import ceil
from typing import Annotated, Protocol, runtime_checkable

from pydantic import Field, PositiveInt

from tskd_tune.errors import InputError
from tskd_tune.registry import Registry, marked
from tskd_tune.sweeps.searching.known import Known
from tskd_tune.sweeps.searching.optuna_parts import Given
from tskd_tune.training.schedule import Schedule
from tskd_tune.words import count

# The names of Ray's schedulers for population-based training.
POPULATIONS = re.compile(r"^(pbt|pb2|pbt_replay|population.?based.*)$|PopulationBased|\bPB2\b", re.IGNORECASE)
# The names of Ray's and HpBandSter's schedulers of BOHB.
BOHB = re.compile(r"^(bohb|hb_bohb|tune_?bohb)$|HyperBandForBOHB|TuneBOHB", re.IGNORECASE)
# The classes of Ray's schedulers -> the names of these rules here.
OF_RAY = {
    "ashascheduler": "asha",
    "asynchyperbandscheduler": "asha",
    "async_hyperband": "asha",
    "hyperbandscheduler": "hyperband",
    "medianstoppingrule": "median_stopping",
    "medianstopping": "median_stopping",
    "fifoscheduler": "fifo",
}

SCHEDULERS: Registry[object] = Registry("schedulers", "TrialScheduler")
"""Factories of ``ray.tune.schedulers.TrialScheduler``.

Their run-time arguments are the epochs of a run, the review epochs of every corner of the space that reviews, the
metric, and its mode (``max`` or ``min``). Tune's own config leaves out metric and mode.
If the attribute ``stops`` of a factory is False, its scheduler lets every trial run to its end.
"""


@runtime_checkable
class Resumable(Protocol):
    """A scheduler that can learn the results of an earlier process of the run."""

    def take_up(self, known: Mapping[int, Known]) -> None:
        """Record the results of trials, by their numbers, before the first trial starts."""


def stops_trials(name: str) -> bool:
    """Return whether a scheduler may stop a trial before its last epoch.

    Raises:
        InputError: no scheduler has this name.
    """
    return bool(getattr(SCHEDULERS.entry(name).factory, "stops", True))


def unfit(name: str) -> str | None:
    """Return why a scheduler of Ray Tune cannot be used by this name, and what to use; None for any other name."""
    if POPULATIONS.search(name):
        return (
            f"'{name}' changes options in the middle of a training and copies weights between trials, so that a trial"
            " is no longer one experiment with one plan of reviews (k and delta decide which epochs memorize), and its"
            " snapshots are those of another trial; Ray Tune also refuses it beside a search; use asha, hyperband or"
            " median_stopping, or search with optuna"
        )
    if BOHB.search(name):
        return (
            f"'{name}' pauses trials until others have caught up, and a paused trial gives up its process and its"
            " snapshots; search: {name: optuna, sampler: tpe} with scheduler: hyperband learns from stopped trials too"
        )
    known = OF_RAY.get(name.rpartition(":")[2].rpartition(".")[2].casefold())
    if known is None or name == known:
        return None
    return f"'{name}' is called {known} here, with the options that `tskd-tune list schedulers` shows; write {known}"


def refuse_few_seeds(name: str, scheduler: object, seeds: int) -> None:
    """Refuse a scheduler that tests the seeds of a trial (``least_seeds``) where there are too few for any decision.

    Raises:
        InputError: there are too few seeds.
    """
    least = int(getattr(scheduler, "least_seeds", 1))
    if seeds < least:
        raise InputError(
            f"seeds: there are {seeds}, but the scheduler '{name}' tests the seeds of a trial, and with fewer than"
            f" {least} no difference is significant; add seeds, or use another scheduler"
        )


def rungs_of(scheduler: object) -> frozenset[int] | None:
    """Return the numbers of trained epochs after which a scheduler compares trials; None for after any epoch.

    Args:
        scheduler: Ray Tune's scheduler; it says its rungs as ``brackets``, a list of rungs for each bracket.
    """
    brackets: Sequence[Sequence[int]] | None = getattr(scheduler, "brackets", None)
    return None if brackets is None else frozenset(rung for rungs in brackets for rung in rungs)


def refuse_unmeasured(name: str, scheduler: object, schedules: Iterable[Schedule]) -> None:
    """Refuse a scheduler that compares trials after epochs in which the validation set is not evaluated.

    Args:
        name: the scheduler's name.
        scheduler: Ray Tune's scheduler; if it does not say its rungs (``brackets``), it may compare after any epoch.
        schedules: the schedules of the trainings.

    Raises:
        InputError: the validation metric is missing at a rung.
    """
    rungs = rungs_of(scheduler)
    for schedule in schedules if stops_trials(name) else ():
        after = range(1, schedule.epochs + 1) if rungs is None else sorted(rungs)
        blind = [epochs for epochs in after if epochs <= schedule.epochs and not schedule.validates(epochs - 1)]
        if blind:
            compares = f"after {', '.join(map(str, after))} epochs" if rungs is not None else "after any epoch"
            raise InputError(
                f"evaluation.validation: is {schedule.validation}, so the validation set is not evaluated after"
                f" {count(blind[0], 'epoch')}, but the scheduler '{name}' compares trials {compares}; set"
                " evaluation.validation to every_epoch or to a number that divides these, or use scheduler: fifo"
            )


@SCHEDULERS.register("fifo", source="every trial runs to its end")
@marked(stops=False)
def fifo(epochs: int, reviews: Sequence[Sequence[int]], metric: str, mode: str) -> object:
    """Every trial runs to its end."""
    from ray.tune.schedulers import FIFOScheduler

    return FIFOScheduler()  # type: ignore[no-untyped-call]


@SCHEDULERS.register("asha", source="Li et al. 2020, A System for Massively Parallel Hyperparameter Tuning")
def asha(
    epochs: int,
    reviews: Sequence[Sequence[int]],
    metric: str,
    mode: str,
    *,
    grace: PositiveInt | None = None,
    reduction_factor: Annotated[int, Field(ge=2)] = 3,
    brackets: PositiveInt = 1,
) -> object:
    """Asynchronous successive halving: at each rung the best 1/reduction_factor of the trials go on.

    Rungs are rounded up to the ends of review cycles, so a run that has just reviewed is not compared with a run that
    is about to review. The cycles are those of the point with the longest cycles.

    Args:
        grace: number of epochs before trials are compared; null: until every configuration of the search space has had
            its first review.
        reduction_factor: at each rung the best 1/reduction_factor of the trials go on.
        brackets: number of brackets among which the trials are divided; each next bracket starts to compare one rung
            later.
    """
    from tskd_tune.sweeps.scheduling.halving import Halving

    chosen = _grace(grace, reviews, epochs)
    _check_brackets(chosen, epochs, reduction_factor, brackets)
    rungs = _rungs(chosen, epochs, reviews, reduction_factor)[:brackets]
    return Halving(rungs, metric, mode, reduction_factor=reduction_factor)


@SCHEDULERS.register("hyperband", source="Li et al. 2018, Hyperband; asynchronous: Li et al. 2020")
def hyperband(
    epochs: int,
    reviews: Sequence[Sequence[int]],
    metric: str,
    mode: str,
    *,
    grace: PositiveInt | None = None,
    reduction_factor: Annotated[int, Field(ge=2)] = 3,
) -> object:
    """Hyperband: as many brackets as there are rungs, each halved as asha does; the last brackets compare latest.

    Brackets get trials so that each trains about the same number of epochs. Trials of a bracket do not wait for one
    another: Tune's own HyperBandScheduler pauses trials, and a paused trial gives up its process and its snapshots.

    Args:
        grace: number of epochs before the first bracket compares trials; null: until every configuration of the search
            space has had its first review.
        reduction_factor: at each rung the best 1/reduction_factor of the trials of a bracket go on.
    """
    from tskd_tune.sweeps.scheduling.halving import Halving

    rungs = _rungs(_grace(grace, reviews, epochs), epochs, reviews, reduction_factor)
    weights = [ceil(len(rungs) * reduction_factor**more / (more + 1)) for more in reversed(range(len(rungs)))]
    return Halving(rungs, metric, mode, reduction_factor=reduction_factor, weights=weights)


@SCHEDULERS.register("median_stopping", source="Golovin et al. 2017, Google Vizier; the rule of Ray Tune")
def median_stopping(
    epochs: int,
    reviews: Sequence[Sequence[int]],
    metric: str,
    mode: str,
    *,
    grace: PositiveInt | None = None,
    least_trials: PositiveInt = 3,
) -> object:
    """A trial stops after an epoch if its best result is worse than the median of the running means of the others.

    Args:
        grace: number of epochs before trials are compared, and which the means leave out; null: until every
            configuration of the search space has had its first review.
        least_trials: number of other trials that must have trained as long before a trial can be stopped.
    """
    from tskd_tune.sweeps.scheduling.median import MedianStopping

    return MedianStopping(metric, mode, grace=_grace(grace, reviews, epochs), least_trials=least_trials)


@SCHEDULERS.register("optuna", source="Akiba et al. 2019, Optuna; its pruners cite their own papers")
def optuna(
    epochs: int,
    reviews: Sequence[Sequence[int]],
    metric: str,
    mode: str,
    *,
    pruner: Given = "MedianPruner",
    grace: PositiveInt | None = None,
) -> object:
    """A pruner of Optuna decides after each epoch which trials are stopped.

    Args:
        pruner: the class of the pruner with its options, such as ``{name: MedianPruner, n_startup_trials: 3}``,
            ``{name: PatientPruner, patience: 5, wrapped_pruner: MedianPruner}`` or ``module:Class``. A step is a
            trained epoch; for ``WilcoxonPruner`` it is a seed.
        grace: number of epochs before the pruner is asked; null: until every configuration of the search space has had
            its first review.
    """
    from tskd_tune.sweeps.scheduling.pruners import pruning

    return pruning(pruner, metric, mode, grace=_grace(grace, reviews, epochs), epochs=epochs)


def _grace(grace: int | None, reviews: Sequence[Sequence[int]], epochs: int) -> int:
    """Return the number of epochs before trials are compared.

    Raises:
        InputError: runs would be compared before their first review, or after their last epoch.
    """
    # Epochs count from 0: a trial whose first review is epoch r has reviewed after r + 1 epochs.
    earliest = max((epochs_of[0] + 1 for epochs_of in reviews), default=1)
    chosen = earliest if grace is None else grace
    if chosen < earliest:
        raise InputError(
            f"scheduler.grace: {count(chosen, 'epoch')} would compare runs before their first review, which can be as"
            f" late as epoch {earliest - 1} in this space; give {earliest} or more, or leave grace out"
        )
    if chosen > epochs:
        raise InputError(f"scheduler.grace: {chosen} epochs are more than the {epochs} of training; lower grace")
    return chosen


def _rungs(grace: int, epochs: int, reviews: Sequence[Sequence[int]], factor: int) -> list[list[int]]:
    """Return the rungs of every possible bracket; each next bracket begins one rung later."""
    powers, ends = _powers(grace, epochs, factor), _cycle_ends(reviews)
    return [sorted({_rounded_up(rung, ends) for rung in powers[bracket:]}) for bracket in range(len(powers))]


def _powers(grace: int, epochs: int, factor: int) -> list[int]:
    """Return the grace period times the powers of the factor, up to the epochs of a run."""
    rungs = [grace]
    while rungs[-1] * factor <= epochs:
        rungs.append(rungs[-1] * factor)
    return rungs


def _cycle_ends(reviews: Sequence[Sequence[int]]) -> list[int]:
    """Return the numbers of epochs after which the cycles end, ascending, of the point with the longest cycle."""

    def longest(epochs: Sequence[int]) -> tuple[int, int]:
        begins = [-1, *epochs]
        return max(later - earlier for earlier, later in pairwise(begins)), epochs[0]

    return [epoch + 1 for epoch in max(reviews, key=longest, default=())]


def _rounded_up(rung: int, ends: Sequence[int]) -> int:
    """Return the first end of a cycle at a rung or after the rung; after the last review, return the rung itself."""
    return next((end for end in ends if end >= rung), rung)


def _check_brackets(grace: int, epochs: int, reduction_factor: int, brackets: int) -> None:
    most = len(_powers(grace, epochs, reduction_factor))
    if brackets > most:
        raise InputError(
            f"scheduler.brackets: {brackets} brackets, but from epoch {grace} to {epochs} by a factor of"
            f" {reduction_factor} there are {most} rungs; lower brackets to {most} or less"
        )
