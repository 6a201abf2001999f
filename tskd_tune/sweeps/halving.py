"""Asynchronous successive halving with rungs that are given one by one, on the public interface of Ray Tune."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING

import numpy as np
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from tskd_tune.sweeps.known import Known
from tskd_tune.sweeps.objectives import worst

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.experiment import Trial

Rung = dict[int, float]
"""Number of a trial -> its metric when it reached the rung, with the sign that makes more better."""


class Halving(FIFOScheduler):
    """Stops a trial at a rung unless its metric is among the best 1/``reduction_factor`` that have reached the rung.

    Tune's own ``ASHAScheduler`` spaces its rungs by powers of the factor, so that a rung could lie within a cycle of
    snapshots and review. The rule is the same: Li et al. 2020, algorithm 2.
    """

    def __init__(self, brackets: Sequence[Sequence[int]], metric: str, mode: str, *, reduction_factor: int) -> None:
        """Judge trials at rungs.

        Args:
            brackets: for each bracket its rungs, as numbers of trained epochs. A trial is in one bracket.
            metric: the key of a result that is compared.
            mode: ``max`` or ``min``.
            reduction_factor: one of so many trials goes on at each rung.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self.brackets = [sorted(rungs) for rungs in brackets]
        self.judged_by, self.mode, self._factor = metric, mode, reduction_factor
        self._recorded: list[dict[int, Rung]] = [{rung: {} for rung in rungs} for rungs in self.brackets]

    def on_trial_add(self, tune_controller: TuneController, trial: Trial) -> None:
        """Do nothing: a trial's number decides its bracket."""

    def on_trial_result(self, tune_controller: TuneController, trial: Trial, result: Mapping[str, object]) -> str:
        """Return ``STOP`` or ``CONTINUE`` for a trial that has trained an epoch."""
        return TrialScheduler.STOP if self._is_behind(trial.config["number"], result) else TrialScheduler.CONTINUE

    def on_trial_complete(self, tune_controller: TuneController, trial: Trial, result: Mapping[str, object]) -> None:
        """Record the last result, with which Tune does not call `on_trial_result`."""
        self._is_behind(trial.config["number"], result)

    def on_trial_remove(self, tune_controller: TuneController, trial: Trial) -> None:
        """Do nothing: a trial that never ran has recorded nothing."""

    def debug_string(self) -> str:
        """Return one line for Tune's log."""
        return f"Halving at the epochs {self.brackets}"

    def save(self, checkpoint_path: str) -> None:
        """Write nothing: `take_up` reads the run's own records."""

    def take_up(self, known: Mapping[int, Known]) -> None:
        """Record the results of trials that an earlier process of the run has trained."""
        for number, trial in known.items():
            for result in trial.results:
                self._is_behind(number, result)
            if trial.end is not None and trial.end.get("failed"):
                self._is_behind(number, {**trial.end, self.judged_by: worst(self.mode)})

    def _is_behind(self, number: int, result: Mapping[str, object]) -> bool:
        """Record a trial at the highest rung that it has reached, and tell whether the rung's best are ahead of it."""
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
        """Return the bracket of a trial: chosen at random by its number, a bracket with more rungs more often."""
        weights = [math.exp(len(rungs)) for rungs in self.brackets]
        return Random(number).choices(range(len(weights)), weights)[0]
