"""Schedulers stop trials that are behind the others; each has a name and options.

Ray is imported when a factory runs, so that a sweep can be read and checked without Ray.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Protocol, runtime_checkable

from pydantic import Field, PositiveInt

from tskd_tune.errors import InputError
from tskd_tune.registry import Registry, marked
from tskd_tune.sweeps.known import Known
from tskd_tune.training.schedule import Schedule

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


def refuse_unmeasured(name: str, scheduler: object, schedules: Iterable[Schedule]) -> None:
    """Refuse a scheduler that compares trials after epochs in which the validation set is not evaluated.

    Args:
        name: the scheduler's name.
        scheduler: Ray Tune's scheduler; if it does not say its rungs (``brackets``), it may compare after any epoch.
        schedules: the schedules of the trainings.

    Raises:
        InputError: the validation metric is missing at a rung.
    """
    brackets: Sequence[Sequence[int]] | None = getattr(scheduler, "brackets", None)
    for schedule in schedules if stops_trials(name) else ():
        after = range(1, schedule.epochs + 1) if brackets is None else sorted({rung for of in brackets for rung in of})
        blind = [epochs for epochs in after if epochs <= schedule.epochs and not schedule.validates(epochs - 1)]
        if blind:
            compares = f"after {', '.join(map(str, after))} epochs" if brackets is not None else "after any epoch"
            raise InputError(
                f"evaluation.validation: is {schedule.validation}, so the validation set is not evaluated after"
                f" {blind[0]} epochs, but the scheduler '{name}' compares trials {compares}; set"
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
    from tskd_tune.sweeps.halving import Halving

    # Epochs count from 0: a trial whose first review is epoch r has reviewed after r + 1 epochs.
    earliest = max((epochs_of[0] + 1 for epochs_of in reviews), default=1)
    chosen = earliest if grace is None else grace
    _check_rungs(chosen, earliest, epochs, reduction_factor, brackets)
    powers = _powers(chosen, epochs, reduction_factor)
    ends = _cycle_ends(reviews)
    rungs = [sorted({_rounded_up(rung, ends) for rung in powers[bracket:]}) for bracket in range(brackets)]
    return Halving(rungs, metric, mode, reduction_factor=reduction_factor)


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


def _check_rungs(grace: int, earliest: int, epochs: int, reduction_factor: int, brackets: int) -> None:
    if grace < earliest:
        raise InputError(
            f"scheduler.grace: {grace} epochs would compare runs before their first review, which can be as late as"
            f" epoch {earliest - 1} in this space; give {earliest} or more, or leave grace out"
        )
    if grace > epochs:
        raise InputError(f"scheduler.grace: {grace} epochs are more than the {epochs} of training; lower grace")
    most = len(_powers(grace, epochs, reduction_factor))
    if brackets > most:
        raise InputError(
            f"scheduler.brackets: {brackets} brackets, but from epoch {grace} to {epochs} by a factor of"
            f" {reduction_factor} there are {most} rungs; lower brackets to {most} or less"
        )
