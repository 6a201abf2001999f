"""Searchers choose the points of a space that are trained; each has a name and options.

Ray and Optuna are imported when a factory runs, so that a sweep can be read and checked without them.
"""

from __future__ import annotations

import random as randomness
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from pydantic import Field, NonNegativeInt, PositiveInt

from tskd_tune.errors import InputError
from tskd_tune.registry import Registry, marked
from tskd_tune.sweeps.messages.trial_config import TrialConfig
from tskd_tune.sweeps.searching.objectives import Goals
from tskd_tune.sweeps.searching.samplers import LARGEST_SEED, SamplerOption, sampling
from tskd_tune.sweeps.space.distinct import experiment_key, told_apart
from tskd_tune.sweeps.space.draws import uniformly
from tskd_tune.sweeps.space.points import Point
from tskd_tune.sweeps.space.search_space import SearchSpace
from tskd_tune.sweeps.space.starting_points import Start, starting_points
from tskd_tune.words import count

# A random search gives up after this many draws in a row without a new experiment.
MOST_MISSES = 10_000

Trials = Annotated[int, Field(ge=1, le=100_000, examples=[40])]

Found: TypeAlias = tuple[Any, int]
"""A searcher of Ray Tune, and the number of trials."""

SEARCHERS: Registry[Found] = Registry("searchers", tuple[Any, int])
"""Factories of ``(ray.tune.search.Searcher, number of trials)``.

Their run-time arguments are the space, a function that makes a trial's `TrialConfig` from a point, the objectives with
their modes (``min`` or ``max``), and the file of the Optuna study for the dashboard, or None for no such file.
If the attribute ``exact`` of a factory is True, its searcher trains every point of the space; every other factory has
the option ``trials``. A `tskd_tune.sweeps.searching.run_searcher.RunSearcher` can go on with a run that was cut off.
"""


def is_exact(name: str) -> bool:
    """Return whether a searcher trains every point of the space; then the points are arms to compare.

    Raises:
        InputError: no searcher has this name.
    """
    return bool(getattr(SEARCHERS.entry(name).factory, "exact", False))


@SEARCHERS.register("grid", source="every point of the product of the choices")
@marked(exact=True)
def grid(space: SearchSpace, describe: Callable[[Point], TrialConfig], goals: Goals, journal: Path | None) -> Found:
    """Every point of the space, once, in the order of the YAML."""
    return _listed(told_apart([describe(point) for point in space.grid()]), goals)


@SEARCHERS.register("random", source="Bergstra and Bengio 2012, Random Search for Hyper-Parameter Optimization")
def random(
    space: SearchSpace,
    describe: Callable[[Point], TrialConfig],
    goals: Goals,
    journal: Path | None,
    *,
    trials: Trials,
    seed: NonNegativeInt = 0,
) -> Found:
    """Independent draws, no experiment twice; a search with more trials begins with the same draws.

    Args:
        trials: number of different points that are drawn, each trained with all seeds.
        seed: seed of the draws; the trainings use the sweep's ``seeds``.
    """
    space.refuse("search")
    _refuse_too_many(space, trials)
    pick = uniformly(randomness.Random(seed))
    configs: dict[str, TrialConfig] = {}
    misses = 0
    while len(configs) < trials:
        config = describe(space.sample(pick))
        key = experiment_key(config)
        misses = 0 if key not in configs else misses + 1
        if misses > MOST_MISSES:
            raise InputError(
                f"search.trials: is {trials}, but only {len(configs)} different experiments were found in the space;"
                f" lower `search.trials` to {len(configs)}"
            )
        configs.setdefault(key, config)
    return _listed(list(configs.values()), goals)


@SEARCHERS.register("optuna", source="Akiba et al. 2019, Optuna; its samplers cite their own papers")
def optuna(
    space: SearchSpace,
    describe: Callable[[Point], TrialConfig],
    goals: Goals,
    journal: Path | None,
    *,
    trials: Trials,
    sampler: SamplerOption = "tpe",
    startup_trials: PositiveInt | None = None,
    population: Annotated[int, Field(ge=2)] | None = None,
    start: Start | None = None,
    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED)] = 0,
) -> Found:
    """A search that learns from finished trials; the first startup_trials (null: Optuna's number) are random.

    Args:
        trials: number of points that are tried, each trained with all seeds.
        sampler: Optuna's sampler: tree-structured Parzen estimator (``tpe``), Gaussian process (``gp``), evolution
            (``nsga2``), quasi-random points (``qmc``) or ``random``; or any sampler class with its options, such as
            ``{name: CmaEsSampler, popsize: 8}``, ``{hub: samplers/auto_sampler, ref: main}`` or ``module:Class``.
        startup_trials: number of random trials before ``tpe`` or ``gp`` learn from results; null: Optuna's own number.
        population: trials per generation of ``nsga2``; null: a quarter of the trials, 50 at most.
        start: points to try first: ``paper`` for the paper's setting, or a list such as ``[{review.k: 3, review.delta:
            5}]``, whose missing values are drawn; null: none.
        seed: seed of the sampler; the trainings use the sweep's ``seeds``.
    """
    from tskd_tune.sweeps.searching.searchers import OptunaSearcher

    space.refuse("search")
    _refuse_too_many(space, trials)
    chosen = sampling(sampler, trials, startup_trials=startup_trials, population=population, seed=seed)
    chosen.check(space, goals)
    starts = starting_points(space, start)
    if len(starts) > trials:
        raise InputError(
            f"search.start: lists {count(len(starts), 'point')}, but search.trials is {trials}; raise search.trials"
        )
    found = OptunaSearcher(
        space,
        describe,
        goals,
        sampler=chosen.make(),
        resampled=chosen.make,
        guard=chosen.guard,
        trials=trials,
        journal=journal,
        starts=starts,
    )
    return found, trials


def _listed(configs: list[TrialConfig], goals: Goals) -> Found:
    from tskd_tune.sweeps.searching.listed_points import ListedPoints

    return ListedPoints(configs, goals), len(configs)


def _refuse_too_many(space: SearchSpace, trials: int) -> None:
    """Refuse more trials than there are points: a repeated training would give the same result."""
    size = space.size()
    if size is not None and trials > size:
        raise InputError(
            f"search.trials: is {trials}, but the space has {size} point{'' if size == 1 else 's'}; lower"
            " `search.trials`, or use `search: {name: grid}` if the space has no range"
        )
