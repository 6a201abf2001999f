"""Searchers choose the points of a space, schedulers stop what does not promise; both by name, with their options.

Ray and Optuna are imported where a factory runs, so that a sweep is read and checked without them.
"""

from __future__ import annotations

import math
import random as randomness
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from tskd_tune.errors import InputError
from tskd_tune.registry import Registry
from tskd_tune.sweep.space import Hole, Pick, Point, SearchSpace

Sampler = Literal["tpe", "gp", "nsga2", "qmc", "random"]
SAMPLERS_THAT_START_AT_RANDOM = ("tpe", "gp")

SEARCHERS: Registry[tuple[Any, int]] = Registry("searchers")
"""Factories of ``(ray.tune.search.Searcher, number of trials)``.

Their run-time arguments are the space, what makes a trial's config out of a point, the metric that the results
carry, its mode (``min`` or ``max``), and the file of the Optuna study for the dashboard, or None for no such file.
"""

SCHEDULERS: Registry[Any] = Registry("schedulers")
"""Factories of ``ray.tune.schedulers.TrialScheduler``.

Their run-time arguments are the epochs of a run, the latest epoch of the space at which a first review falls
(None where nothing is reviewed), the metric and its mode, which Tune's own config then leaves out.
"""


@SEARCHERS.register("grid", source="every point of the product of the choices")
def grid(
    space: SearchSpace, describe: Callable[[Point], dict[str, Any]], metric: str, mode: str, journal: Path | None
) -> tuple[Any, int]:
    """Every point of the space, once, in the order of the YAML."""
    return _listed(space.grid(), describe, metric, mode)


@SEARCHERS.register("random", source="Bergstra and Bengio 2012, Random Search for Hyper-Parameter Optimization")
def random(
    space: SearchSpace,
    describe: Callable[[Point], dict[str, Any]],
    metric: str,
    mode: str,
    journal: Path | None,
    *,
    trials: PositiveInt,
    seed: NonNegativeInt = 0,
) -> tuple[Any, int]:
    """Independent draws, none twice; more trials go on where fewer ended."""
    space.refuse("search")
    size = space.size()
    if size is not None and trials > size:
        raise InputError(f"search.trials: {trials} draws from a space of {size} points; lower trials, or use grid")
    pick = _uniformly(randomness.Random(seed))
    points: dict[str, Point] = {}
    while len(points) < trials:
        point = space.sample(pick)
        points.setdefault(repr(point.values), point)
    return _listed(list(points.values()), describe, metric, mode)


@SEARCHERS.register("optuna", source="Akiba et al. 2019, Optuna; its samplers cite their own papers")
def optuna(
    space: SearchSpace,
    describe: Callable[[Point], dict[str, Any]],
    metric: str,
    mode: str,
    journal: Path | None,
    *,
    trials: PositiveInt,
    sampler: Sampler = "tpe",
    startup_trials: PositiveInt | None = None,
    seed: NonNegativeInt = 0,
) -> tuple[Any, int]:
    """A search that learns from finished trials; the first startup_trials (null: Optuna's number) are random."""
    from tskd_tune.sweep.searchers import OptunaSearcher

    space.refuse("search")
    if startup_trials is not None and sampler not in SAMPLERS_THAT_START_AT_RANDOM:
        raise InputError(
            f"search.startup_trials: the sampler '{sampler}' has no random start; leave it out, or use tpe or gp"
        )
    study_sampler = _optuna_sampler(sampler, startup_trials, seed)
    return OptunaSearcher(space, describe, metric, mode, sampler=study_sampler, trials=trials, journal=journal), trials


@SCHEDULERS.register("fifo", source="every trial runs to its end")
def fifo(epochs: int, latest_first_review: int | None, metric: str, mode: str) -> Any:
    """Every trial runs to its end."""
    from ray.tune.schedulers import FIFOScheduler

    return FIFOScheduler()  # type: ignore[no-untyped-call]


@SCHEDULERS.register("asha", source="Li et al. 2020, A System for Massively Parallel Hyperparameter Tuning")
def asha(
    epochs: int,
    latest_first_review: int | None,
    metric: str,
    mode: str,
    *,
    grace: PositiveInt | None = None,
    reduction_factor: Annotated[int, Field(ge=2)] = 3,
    brackets: PositiveInt = 1,
) -> Any:
    """Successive halving, asynchronously: at each rung the best 1/reduction_factor of the trials go on."""
    from ray.tune.schedulers import AsyncHyperBandScheduler

    # Tune judges after `training_iteration` epochs; the first review is epoch r, counted from 0, so r + 1 include it.
    earliest = 1 if latest_first_review is None else latest_first_review + 1
    chosen = earliest if grace is None else grace
    _check_rungs(chosen, earliest, epochs, reduction_factor, brackets)
    return AsyncHyperBandScheduler(
        time_attr="training_iteration",
        metric=metric,
        mode=mode,
        max_t=epochs,
        grace_period=chosen,
        reduction_factor=reduction_factor,
        brackets=brackets,
    )


def _check_rungs(grace: int, earliest: int, epochs: int, reduction_factor: int, brackets: int) -> None:
    if grace < earliest:
        raise InputError(
            f"scheduler.grace: {grace} epochs judge runs before their first review, which is as late as epoch"
            f" {earliest - 1} in this space; give {earliest} or more, or leave grace out"
        )
    if grace > epochs:
        raise InputError(f"scheduler.grace: {grace} epochs are more than the {epochs} of training; lower grace")
    most = 1 + int(math.log(epochs / grace, reduction_factor) + 1e-9)
    if brackets > most:
        raise InputError(
            f"scheduler.brackets: {brackets} brackets, but from epoch {grace} to {epochs} by a factor of"
            f" {reduction_factor} there are {most} rungs; lower brackets to {most} or less"
        )


def _listed(
    points: list[Point], describe: Callable[[Point], dict[str, Any]], metric: str, mode: str
) -> tuple[Any, int]:
    from tskd_tune.sweep.searchers import ListedPoints

    return ListedPoints([describe(point) for point in points], metric, mode), len(points)


def _uniformly(source: randomness.Random) -> Pick:
    def pick(hole: Hole) -> Any:
        if not hole.is_range:
            return source.choice(hole.labels)
        if hole.kind == "int":
            return source.randrange(int(hole.low), int(hole.high) + 1, hole.step)
        if hole.kind == "uniform":
            return source.uniform(hole.low, hole.high)
        # Rounding in the exponential may step over an end.
        drawn = math.exp(source.uniform(math.log(hole.low), math.log(hole.high)))
        return min(max(drawn, hole.low), hole.high)

    return pick


def _optuna_sampler(sampler: Sampler, startup_trials: int | None, seed: int) -> Any:
    from optuna import samplers
    from optuna.exceptions import ExperimentalWarning

    startup: dict[str, Any] = {} if startup_trials is None else {"n_startup_trials": startup_trials}
    makers: dict[str, Callable[[], Any]] = {
        # Groups are the branches of a conditional space: holes that appear together are modelled together.
        "tpe": lambda: samplers.TPESampler(seed=seed, multivariate=True, group=True, **startup),
        # Holes of a branch are not in every trial; these two draw them at random, which is no news to a user.
        "gp": lambda: samplers.GPSampler(seed=seed, warn_independent_sampling=False, **startup),
        "qmc": lambda: samplers.QMCSampler(seed=seed, scramble=True, warn_independent_sampling=False),
        "nsga2": lambda: samplers.NSGAIISampler(seed=seed),
        "random": lambda: samplers.RandomSampler(seed=seed),
    }
    with warnings.catch_warnings():
        # That an interface of Optuna may change is news for this package, which bounds its version, not for a user.
        warnings.simplefilter("ignore", ExperimentalWarning)
        return makers[sampler]()
