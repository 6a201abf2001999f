"""A searcher of one's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import PositiveInt

from tskd_tune.sweeps.messages.trial_config import TrialConfig
from tskd_tune.sweeps.searching.listed_points import ListedPoints
from tskd_tune.sweeps.searching.objectives import Goals
from tskd_tune.sweeps.space.points import Point
from tskd_tune.sweeps.space.search_space import SearchSpace


def backwards(
    space: SearchSpace,
    describe: Callable[[Point], TrialConfig],
    goals: Goals,
    journal: Path | None,
    *,
    trials: PositiveInt,
) -> tuple[Any, int]:
    """The last points of the space first.

    Args:
        trials: number of points that are trained, from the last.
    """
    points = list(reversed(space.grid()))[:trials]
    return ListedPoints([describe(point) for point in points], goals), len(points)
