"""Asynchronous successive halving with a given list of rungs, on the public interface of Ray Tune."""

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
"""Number of a trial -> its metric at the rung, negated if the mode is ``min``, so larger is better."""


class Halving(FIFOScheduler):
    """Stops a trial at a rung unless its metric is among the best 1/``reduction_factor`` that have reached the rung.

    The rungs of Tune's own ``ASHAScheduler`` are powers of the factor, so a rung could lie within a cycle of snapshots
    and review. The rule for stopping is the same: Li et al. 2020, algorithm 2.
    """

    def __init__(self, brackets: Sequence[Sequence[int]], metric: str, mode: str, *, reduction_factor: int) -> None:
        """Compare trials at rungs.

        Args:
            brackets: the rungs of each bracket, as numbers of trained epochs. Each trial belongs to one bracket.
            metric: the key of the number that is compared.
            mode: ``max`` or ``min``.
            reduction_factor: at each rung, one of ``reduction_factor`` trials goes on.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self.brackets = [sorted(rungs) for rungs in brackets]
        self.judged_by, self.mode, self._factor = metric, mode, reduction_factor
        self._recorded: list[dict[int, Rung]] = [{rung: {} for rung in rungs} for rungs in self.brackets]
        # The trials that were behind when an earlier process of the run ended, and that have no row: the epoch of each.
        self._left_behind: dict[int, int] = {}

    def on_trial_add(self, tune_controller: TuneController, trial: Trial) -> None:
        """Do nothing: a trial's number decides its bracket."""

    def on_trial_result(self, tune_controller: TuneController, trial: Trial, result: Mapping[str, object]) -> str:
        """Return ``STOP`` or ``CONTINUE`` for a trial that has trained an epoch."""
        number, epoch = trial.config["number"], result.get("epoch")
        left = self._left_behind.get(number)
        # A checkpoint may be older than the last result, so the epochs up to this result are trained again.
        behind = self._is_behind(number, result) or (left is not None and isinstance(epoch, int) and epoch >= left)
        return TrialScheduler.STOP if behind else TrialScheduler.CONTINUE

    def on_trial_complete(self, tune_controller: TuneController, trial: Trial, result: Mapping[str, object]) -> None:
        """Record the last result; Tune does not call `on_trial_result` with the last result."""
        self._is_behind(trial.config["number"], result)

    def on_trial_remove(self, tune_controller: TuneController, trial: Trial) -> None:
        """Do nothing: a trial that never ran has recorded nothing."""

    def debug_string(self) -> str:
        """Return one line for Tune's log."""
        return f"Halving at the epochs {self.brackets}"

    def save(self, checkpoint_path: str) -> None:
        """Write nothing: `take_up` reads the run's own records."""

    def take_up(self, known: Mapping[int, Known]) -> None:
        """Record the results of trials that an earlier process of the run has trained.

        If the driver died between the last history line of a trial and its row, the trial may have been stopped there.
        A trial that has not ended and is behind at its last result is stopped when it reports this result again.
        """
        for number, trial in known.items():
            for result in trial.results if trial.end is not None else trial.results[:-1]:
                self._is_behind(number, result.plain())
            if trial.end is not None and trial.end.failed:
                self._is_behind(number, {**trial.end.plain(), self.judged_by: worst(self.mode)})
        # Last, so that each is compared with all others, as the results that came last were.
        latest = {number: trial.results[-1] for number, trial in known.items() if trial.end is None and trial.results}
        self._left_behind |= {n: of.epoch for n, of in latest.items() if self._is_behind(n, of.plain())}

    def _is_behind(self, number: int, result: Mapping[str, object]) -> bool:
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
        """Draw the bracket of a trial, with its number as random seed; brackets with more rungs are more likely."""
        weights = [math.exp(len(rungs)) for rungs in self.brackets]
        return Random(number).choices(range(len(weights)), weights)[0]
