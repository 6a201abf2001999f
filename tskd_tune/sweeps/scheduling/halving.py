"""Asynchronous successive halving with a given list of rungs, on the public interface of Ray Tune."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from random import Random

import numpy as np

from tskd_tune.sweeps.scheduling.judging import Judging

Rung = dict[int, float]
"""Number of a trial -> its metric at the rung, negated if the mode is ``min``, so larger is better."""


class Halving(Judging):
    """Stops a trial at a rung unless its metric is among the best 1/``reduction_factor`` that have reached the rung.

    The rungs of Tune's own ``ASHAScheduler`` are powers of the factor, so a rung could lie within a cycle of snapshots
    and review. The rule for stopping is the same: Li et al. 2020, algorithm 2.
    """

    def __init__(
        self,
        brackets: Sequence[Sequence[int]],
        metric: str,
        mode: str,
        *,
        reduction_factor: int,
        weights: Sequence[float] | None = None,
    ) -> None:
        """Compare trials at rungs.

        Args:
            brackets: the rungs of each bracket, as numbers of trained epochs. Each trial belongs to one bracket.
            metric: the key of the number that is compared.
            mode: ``max`` or ``min``.
            reduction_factor: at each rung, one of ``reduction_factor`` trials goes on.
            weights: how likely each bracket is for a trial; None: more likely with more rungs, as in Tune's ASHA.
        """
        super().__init__(metric, mode)
        self.brackets = [sorted(rungs) for rungs in brackets]
        self._factor = reduction_factor
        self._weights = [math.exp(len(rungs)) for rungs in self.brackets] if weights is None else list(weights)
        self._recorded: list[dict[int, Rung]] = [{rung: {} for rung in rungs} for rungs in self.brackets]

    def debug_string(self) -> str:
        """Return one line for Tune's log."""
        return f"Halving at the epochs {self.brackets}"

    def is_behind(self, number: int, result: Mapping[str, object]) -> bool:
        """Record a trial at the highest rung that it has reached, and return whether it is not among the best there."""
        epoch, value = result.get("epoch"), result.get(self.judged_by)
        if not isinstance(epoch, int) or not isinstance(value, int | float):
            return False
        value = value if self.mode == "max" else -value
        recorded = self._recorded[self._bracket(number)]
        rung = next((rung for rung in sorted(recorded, reverse=True) if rung <= epoch + 1), None)
        if rung is None or number in recorded[rung]:
            return False
        others = list(recorded[rung].values())
        recorded[rung][number] = value
        return bool(others) and value < float(np.nanpercentile(others, (1 - 1 / self._factor) * 100))

    def _bracket(self, number: int) -> int:
        """Draw the bracket of a trial, with its number as random seed."""
        return Random(number).choices(range(len(self._weights)), self._weights)[0]
