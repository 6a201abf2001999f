"""The median stopping rule of Ray Tune, on the numbers of trials, so that a resumed run can go on with it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from ray.tune.schedulers import MedianStoppingRule, TrialScheduler

from tskd_tune.sweeps.scheduling.judging import Judging

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.experiment import Trial

NO_CONTROLLER = cast("TuneController", None)
"""Tune's rule uses its controller only to pause trials, which it never does here."""


@dataclass(frozen=True)
class _Numbered:
    """Stands for a trial in Tune's rule, which uses trials as keys and shows their ids in its log."""

    number: int

    @property
    def trial_id(self) -> str:
        return f"{self.number:05d}"


class MedianStopping(Judging):
    """Stops a trial whose best result is worse than the median of the other trials' running means."""

    def __init__(self, metric: str, mode: str, *, grace: int, least_trials: int) -> None:
        """Compare trials after each epoch.

        Args:
            metric: the key of the number that is compared.
            mode: ``max`` or ``min``.
            grace: number of trained epochs before trials are compared.
            least_trials: number of other trials that must have trained as long.
        """
        super().__init__(metric, mode)
        self._rule = MedianStoppingRule(
            time_attr="epoch",
            metric=metric,
            mode=mode,
            grace_period=grace - 1,  # epochs count from 0
            min_samples_required=least_trials,
            min_time_slice=math.inf,  # type: ignore[arg-type]  # pauses no trial
            hard_stop=True,
        )
        self._latest: dict[int, int] = {}
        self._stopped: set[int] = set()

    def debug_string(self) -> str:
        """Return one line for Tune's log."""
        return str(self._rule.debug_string())

    def is_behind(self, number: int, result: Mapping[str, object]) -> bool:
        """Record the result of an epoch, and return whether the trial is worse than the median of the others."""
        told = self._new(number, result)
        if told is not None and number not in self._stopped:  # Tune's rule hears nothing of a trial that it stopped
            decision = self._rule.on_trial_result(NO_CONTROLLER, _trial(number), told)
            if decision == TrialScheduler.STOP:
                self._stopped.add(number)
        return told is not None and number in self._stopped

    def finish(self, number: int, result: Mapping[str, object]) -> None:
        """Record the last result of a trial; it counts in the comparisons of the others."""
        if (told := self._new(number, result)) is not None:
            self._rule.on_trial_complete(NO_CONTROLLER, _trial(number), told)

    def _new(self, number: int, result: Mapping[str, object]) -> dict[str, float] | None:
        """Return epoch and metric of a result; None if the epoch was recorded before, or has no metric."""
        epoch, value = result.get("epoch"), result.get(self.judged_by)
        if not isinstance(epoch, int) or not isinstance(value, int | float) or epoch <= self._latest.get(number, -1):
            return None
        self._latest[number] = epoch
        return {"epoch": epoch, self.judged_by: value}


def _trial(number: int) -> Trial:
    return cast("Trial", _Numbered(number))
