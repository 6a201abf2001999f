"""Ends a sweep with the error of a sampler or a pruner.

Ray Tune takes an exception of a searcher or a scheduler for the failure of a trial, tries this trial again, and may
wait for ever. So the error is kept, and raised where Ray Tune asks for the next trial.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from ray.tune.schedulers import TrialScheduler

from tskd_tune.errors import RunError
from tskd_tune.sweeps.searching.optuna_parts import Part

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.experiment import Trial


class Kept:
    """The first error of a sampler or a pruner in the present sweep. Ray Tune pickles what raises the errors."""

    error: ClassVar[RunError | None] = None


@contextmanager
def kept(part: Part) -> Iterator[None]:
    """Raise any error of a class as a `RunError` that names the class, and keep it for `ending`.

    Where Ray Tune would take the error for that of a trial, the caller suppresses it.
    """
    try:
        with part.named("failed", RunError):
            yield
    except RunError as error:
        Kept.error = Kept.error or error
        raise


@contextmanager
def ending(scheduler: TrialScheduler) -> Iterator[None]:
    """Let the block end with an error that is kept: a scheduler raises it when it is asked for the next trial.

    Raises:
        RunError: the error of a sampler or a pruner.
    """
    Kept.error = None
    choose = partial(_choose_trial_to_run, scheduler.choose_trial_to_run)
    scheduler.choose_trial_to_run = choose  # type: ignore[method-assign]
    try:
        yield
        if Kept.error is not None:  # of the last trial
            raise Kept.error
    finally:
        Kept.error = None


def _choose_trial_to_run(then: Callable[[TuneController], Trial | None], controller: TuneController) -> Trial | None:
    if Kept.error is not None:
        raise Kept.error
    return then(controller)
