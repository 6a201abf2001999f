"""Replicates of a search: the same space, searched again with other seeds.

One search is one draw of luck: of its searcher, and of the seeds of its trainings. So a replicate has both seeds of its
own. The searcher's seed grows by one per replicate, and the seeds of the trainings move on by their whole range.
Replicates of the same number of two methods have the same seeds, if both files declare the same; so they are paired.
"""

from __future__ import annotations

from collections.abc import Mapping

from tskd_tune.errors import InputError
from tskd_tune.sweeps.declared.schema import Sweep


def refuse_replicates(sweep: Sweep) -> None:
    """Refuse replicates of a sweep whose points do not depend on a seed of its searcher.

    Raises:
        InputError: the sweep is a grid, or its searcher or its sampler cannot be given other seeds.
    """
    name, options = sweep.search.name, sweep.search.options()
    if sweep.is_exact:
        raise InputError(
            f"--replicates: repeats a search, and this sweep trains every point (search: {name}); leave --replicates"
            " out and give more seeds, or search with random or optuna"
        )
    if "seed" not in options:
        raise InputError(
            f"--replicates: the searcher '{name}' has no option 'seed', so every replicate would try the same points;"
            " leave --replicates out, or give the searcher this option"
        )
    sampler = options.get("sampler")
    if isinstance(sampler, Mapping) and "seed" in sampler:
        raise InputError(
            f"--replicates: search.sampler.seed is {sampler['seed']}, so every replicate would draw the same; leave"
            " search.sampler.seed out and give search.seed"
        )


def replicate_of(sweep: Sweep, number: int) -> Sweep:
    """Return a replicate of a search; the first is the sweep itself.

    Args:
        sweep: the search.
        number: the number of the replicate, from 1.

    Raises:
        InputError: a seed would be too large.
    """
    if number == 1:
        return sweep
    plain, seeds = sweep.plain(), sweep.all_seeds()
    shift = (number - 1) * (max(seeds) - min(seeds) + 1)
    experiment = {key: value for key, value in plain["experiment"].items() if key != "seed"}
    search = {**plain["search"], "seed": sampler_seed(sweep) + number - 1}
    return Sweep.read({**plain, "experiment": experiment, "search": search, "seeds": [seed + shift for seed in seeds]})


def sampler_seed(sweep: Sweep) -> int:
    """Return the seed of a sweep's searcher."""
    return int(sweep.search.options()["seed"])
