"""What schedulers that compare trials have in common: trials by number, and what a resumed run learns."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from tskd_tune.sweeps.searching.known import Known
from tskd_tune.sweeps.searching.objectives import worst

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.experiment import Trial


class Judging(FIFOScheduler):
    """Stops a trial, by its number, as soon as `is_behind` says so. It pauses no trial."""

    def __init__(self, metric: str, mode: str) -> None:
        """Compare trials by a metric; ``mode`` is ``max`` or ``min``."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.judged_by, self.mode = metric, mode
        # The trials that were behind when an earlier process of the run ended, and that have no row: the epoch of each.
        self._left_behind: dict[int, int] = {}

    @abstractmethod
    def is_behind(self, number: int, result: Mapping[str, object]) -> bool:
        """Record the result of an epoch of a trial, and return whether to stop the trial after this epoch.

        A result may come twice, because a restored trial repeats epochs.
        """

    def finish(self, number: int, result: Mapping[str, object]) -> None:
        """Record the last result of a trial."""
        self.is_behind(number, result)

    def on_trial_add(self, tune_controller: TuneController, trial: Trial) -> None:
        """Do nothing: a trial is known by its number."""

    def on_trial_result(self, tune_controller: TuneController, trial: Trial, result: Mapping[str, object]) -> str:
        """Return ``STOP`` or ``CONTINUE`` for a trial that has trained an epoch."""
        number, epoch = trial.config["number"], result.get("epoch")
        left = self._left_behind.get(number)
        # A checkpoint may be older than the last result, so the epochs up to this result are trained again.
        behind = self.is_behind(number, result) or (left is not None and isinstance(epoch, int) and epoch >= left)
        return TrialScheduler.STOP if behind else TrialScheduler.CONTINUE

    def on_trial_complete(self, tune_controller: TuneController, trial: Trial, result: Mapping[str, object]) -> None:
        """Record the last result; Tune does not call `on_trial_result` with the last result."""
        self.finish(trial.config["number"], result)

    def on_trial_remove(self, tune_controller: TuneController, trial: Trial) -> None:
        """Do nothing: a trial that never ran has recorded nothing."""

    def save(self, checkpoint_path: str) -> None:
        """Write nothing: `take_up` reads the run's own records."""

    def take_up(self, known: Mapping[int, Known]) -> None:
        """Record the results of trials that an earlier process of the run has trained.

        If the driver died between the last history line of a trial and its row, the trial may have been stopped there.
        A trial that has not ended and is behind at its last result is stopped when it reports this result again.
        """
        for number, trial in sorted(known.items()):
            for result in trial.results if trial.end is not None else trial.results[:-1]:
                self.is_behind(number, result.plain())
            if trial.end is not None:
                last = {self.judged_by: worst(self.mode)} if trial.end.failed else {}
                self.finish(number, {**trial.end.plain(), **last})
        # Last, so that each is compared with all others, as the results that came last were.
        latest = {number: trial.results[-1] for number, trial in known.items() if trial.end is None and trial.results}
        self._left_behind |= {n: of.epoch for n, of in latest.items() if self.is_behind(n, of.plain())}
