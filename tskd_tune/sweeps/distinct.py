"""Counts the different experiments of a space: two labels can mean one value, or a parameter can have no effect."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final

from tskd_tune.errors import InputError
from tskd_tune.plain import Document
from tskd_tune.sweeps.controls import identity
from tskd_tune.sweeps.points import Point
from tskd_tune.sweeps.space import SearchSpace

# The points of a larger space are not enumerated, because a search rarely has so many trials.
MOST_POINTS: Final = 1000


def too_few(space: SearchSpace, trials: int, resolve: Callable[[Point], Document]) -> str | None:
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
