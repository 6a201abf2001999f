"""Counts the different experiments of a space: two labels can mean one value, or a parameter can have no effect."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

from tskd_tune.errors import InputError
from tskd_tune.sweeps.controls import identity
from tskd_tune.sweeps.points import Point
from tskd_tune.sweeps.space import SearchSpace
from tskd_tune.sweeps.trial_config import TrialConfig

# The points of a larger space are not enumerated, because a search rarely has so many trials.
MOST_POINTS: Final = 1000


def too_few(space: SearchSpace, trials: int, resolve: Callable[[Point], Mapping[str, object]]) -> str | None:
    """Return a sentence if a space holds fewer different experiments than a search has trials; otherwise None.

    The searcher itself refuses a space with fewer points than trials.

    Args:
        space: the search space.
        trials: the number of trials of the search; each trial trains a different experiment.
        resolve: makes the whole experiment of a point, as plain data.
    """
    size = space.size()
    if size is None or not trials <= size <= MOST_POINTS:
        return None
    found: dict[str, str] = {}
    twins: list[str] = []
    for point in space.points():
        with suppress(InputError):
            first = found.setdefault(identity(resolve(point)), point.label)
            twins += [f"'{point.label}' is the experiment '{first}'"] if first != point.label else []
        if len(found) >= trials:
            return None
    same = f" ({twins[0]}{f', and {len(twins) - 1} more' if len(twins) > 1 else ''})" if twins else ""
    return (
        f"search.trials: is {trials}, but the {size} points of the space are {len(found)} different experiments{same};"
        f" lower `search.trials` to {len(found)}"
    )


def experiment_key(config: TrialConfig) -> str:
    """Return what tells the experiment of a config from others: its identity, or the experiment itself without one."""
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
