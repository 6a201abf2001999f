"""Counts the different experiments of a space: two labels can mean one value, or a parameter can have no effect."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from random import Random
from typing import Final

from tskd_tune.errors import InputError
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.identity import identity
from tskd_tune.sweeps.messages.trial_config import TrialConfig
from tskd_tune.sweeps.space.draws import uniformly
from tskd_tune.sweeps.space.points import Point
from tskd_tune.sweeps.space.search_space import SearchSpace

# The points of a space up to this size are all listed; from a larger space points are drawn.
MOST_LISTED: Final = 10_000
# So many draws in a row without a new experiment show that a space has no more.
MOST_MISSES: Final = 1000
# A search of more trials is not checked, which would take minutes.
MOST_TRIALS: Final = 1000


def too_few(space: SearchSpace, trials: int, resolve: Callable[[Point], Experiment]) -> str | None:
    """Return a sentence if a space holds fewer different experiments than a search has trials; otherwise None.

    The searcher itself refuses a space with fewer points than trials.

    Args:
        space: the search space.
        trials: the number of trials of the search; each trial trains a different experiment.
        resolve: makes the whole experiment of a point.
    """
    size = space.size()
    if trials > MOST_TRIALS or (size is not None and size < trials):
        return None
    found: dict[str, str] = {}
    twins: list[str] = []
    misses = 0
    for point in candidates(space):
        misses += 1
        with suppress(InputError):
            first = found.setdefault(identity(resolve(point)), point.label)
            if first == point.label:
                misses = 0
            else:
                twins.append(f"'{point.label}' is the experiment '{first}'")
        if len(found) >= trials:
            return None
        if misses > MOST_MISSES and not is_listed(space):
            break
    same = f" ({twins[0]}{f', and {len(twins) - 1} more' if len(twins) > 1 else ''})" if twins else ""
    points = f"{size} points" if is_listed(space) else "points"
    return (
        f"search.trials: is {trials}, but the {points} of the space are {len(found)} different experiments{same};"
        f" lower `search.trials` to {len(found)}"
    )


def is_listed(space: SearchSpace) -> bool:
    """Return whether a space is so small that all of its points are listed."""
    size = space.size()
    return size is not None and size <= MOST_LISTED


def candidates(space: SearchSpace, seed: int = 0) -> Iterator[Point]:
    """Return every point of a small space in order, or endless draws from a larger space."""
    if is_listed(space):
        return space.points()
    pick = uniformly(Random(seed))
    return iter(lambda: space.sample(pick), None)


def experiment_key(config: TrialConfig) -> str:
    """Return a key that differs between different experiments: the identity, or the experiment itself without one."""
    return config.identity or json.dumps(config.experiment, sort_keys=True)


def told_apart(configs: Sequence[TrialConfig]) -> list[TrialConfig]:
    """Name the trainings of each config by an identity that no other config has.

    Arms whose experiments differ in nothing that names a training (such as ``training.threads``) have one identity. The
    first arm keeps it, the others add their place among these arms, so no arm writes into the files of another.
    """
    before: Counter[str] = Counter()
    named: list[TrialConfig] = []
    for config in configs:
        identity = experiment_key(config)
        before[identity] += 1
        count = before[identity]
        named.append(config if count == 1 else replace(config, identity=f"{identity}-{count}"))
    return named
