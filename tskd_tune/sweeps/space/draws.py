"""Draws a value from each domain of a search space at random."""

from __future__ import annotations

import math
from random import Random
from typing import Any

from tskd_tune.sweeps.space.domains import Hole, Pick


def uniformly(source: Random) -> Pick:
    """Return a function that draws uniformly from each domain; from `loguniform`, uniformly in the logarithm."""

    def pick(hole: Hole) -> Any:
        if not hole.is_range:
            return source.choice(hole.labels)
        if hole.kind == "int":
            return source.randrange(int(hole.low), int(hole.high) + 1, hole.step)
        if hole.kind == "uniform":
            return source.uniform(hole.low, hole.high)
        # By rounding, the exponential may lie outside the range.
        drawn = math.exp(source.uniform(math.log(hole.low), math.log(hole.high)))
        return min(max(drawn, hole.low), hole.high)

    return pick
