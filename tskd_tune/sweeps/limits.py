"""Ends a sweep before all of it is trained: when its budget is used up, or when a trial of a search reaches a target.

At the end no further trial begins, and a trial that runs is stopped after its epoch, with a checkpoint and a row that
says why. After the end of a budget a resume trains these trials on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final, TypeAlias

from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from tskd_tune.metrics import Mode
from tskd_tune.paths import in_shell
from tskd_tune.plain import Document
from tskd_tune.records.entries.conclusion import Conclusion
from tskd_tune.records.runs.counted import counted
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.reports.findings.endings import Counts
from tskd_tune.reports.findings.endings import unfinished as begun_without_row
from tskd_tune.sweeps.declared.settings import Budget, Target
from tskd_tune.sweeps.messages.trial_config import TrialConfig
from tskd_tune.sweeps.searching.known import Known
from tskd_tune.sweeps.searching.run_searcher import FINISHED, Config
from tskd_tune.sweeps.trials.bundles import results_of
from tskd_tune.words import count

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.experiment import Trial

HOUR: Final = 3600.0
Clock: TypeAlias = Callable[[], float]


class Limits:
    """What may end a sweep early, and what has ended it.

    Ray Tune pickles searchers and schedulers, so they look for the limits of the present sweep in `current`.

    Attributes:
        current: the limits of the present sweep; None without a sweep.
        reason: what has ended the sweep; empty while it may go on.
        at_target: whether a trial has reached the target.
    """

    current: ClassVar[Limits | None] = None

    def __init__(
        self,
        budget: Budget | None = None,
        target: Target | None = None,
        *,
        metric: str = "",
        mode: Mode = "max",
        used: float = 0.0,
        gpus: float = 0.0,
        clock: Clock | None = None,
    ) -> None:
        """Begin to count.

        Args:
            budget: the budget of the whole run; None for none.
            target: the target of a search; None for none.
            metric: the metric of the search.
            mode: ``max`` if larger values of the metric are better.
            used: seconds that the run has used so far.
            gpus: the GPUs of a trial.
            clock: counts seconds; None: the time of day.
        """
        self.reason, self.at_target = "", False
        self._budget, self._target, self._metric, self._mode = budget or Budget(hours=None), target, metric, mode
        self._gpus, self._clock = gpus, clock or time.time
        # Trial and seed -> its last epoch that was counted; a restored trial reports its epochs again.
        self._counted: dict[tuple[str, int], int] = {}
        self._gpu_used = 0.0
        hours = self._budget.hours
        self._until = None if hours is None else self._clock() + hours * HOUR - used
        self._cut: set[str] = set()

    @property
    def are_set(self) -> bool:
        """Whether anything can end the sweep early."""
        return self._target is not None or self._budget.hours is not None or self._budget.gpu_hours is not None

    @classmethod
    @contextmanager
    def held(cls, limits: Limits) -> Iterator[None]:
        """Make these limits the `current` ones until the end of the block."""
        cls.current = limits
        try:
            yield
        finally:
            cls.current = None

    def over(self) -> bool:
        """Return whether the sweep has to end now."""
        if not self.reason and self._until is not None and self._clock() >= self._until:
            self.reason = f"the budget of {self._budget.hours:g} h is used up"
        most = self._budget.gpu_hours
        if not self.reason and most is not None and self._gpu_used >= most * HOUR:
            self.reason = f"the budget of {most:g} GPU hours is used up"
        return bool(self.reason)

    def learn(self, known: Mapping[int, Known]) -> None:
        """Learn whether a trial of an earlier process has reached the target."""
        for number, trial in sorted(known.items()):
            if trial.end is not None and trial.end.epoch + 1 >= trial.end.epochs and not trial.end.failed:
                self._compare(f"{number:05d}", trial.end.numbers.get(self._metric))

    def heard(self, config: TrialConfig, result: Document) -> None:
        """Count the seconds of a result, and compare the last result of a whole training with the target."""
        for given, found in results_of(config, result):
            for record in found.records:
                self.count(given.run, record.seed, record.epoch, record.seconds + record.eval_seconds)
            if found.epoch + 1 >= found.epochs and not found.failed:
                self._compare(given.run, result.get(self._metric))

    def count(self, run: str, seed: int, epoch: int, seconds: float) -> None:
        """Count the seconds of an epoch of a training as time on its GPUs, once."""
        if epoch > self._counted.get((run, seed), -1):
            self._counted[run, seed] = epoch
            self._gpu_used += self._gpus * seconds

    def cut(self, config: TrialConfig) -> None:
        """Note that a trial is stopped because the sweep ends."""
        self._cut |= {given.run for given in config.members()}

    def reason_of(self, run: str) -> str | None:
        """Return why a trial was stopped, if it was stopped because the sweep ended; otherwise None."""
        return self.reason if run in self._cut else None

    def conclusion(self, folder: RunFolder) -> Conclusion | None:
        """Return why the sweep has ended, with what is not trained and how to go on; None if all is trained."""
        rows = counted(folder, folder.rows())
        counts = Counts.over(rows, folder.state.expected, len(begun_without_row(folder, rows)))
        if not self.reason:
            return None
        head = f"{self.reason[0].upper()}{self.reason[1:]}"
        again = f"tskd-tune resume {in_shell(folder.place)}"
        if self.at_target:
            assert self._target is not None
            said = f"{head}: the search ended after {count(len({row.run for row in rows}), 'trial')}"
            how = f"raise stop.at in {folder.place}/sweep.yaml or remove stop, then: {again}"
            return Conclusion(f"{said}. To search on, {how}", self._target.plain())
        if counts.all_finished:
            return None
        are = "training is" if counts.unfinished == 1 else "trainings are"
        have = "has" if counts.not_begun == 1 else "have"
        said = f"{head}: {counts.unfinished} {are} unfinished and {counts.not_begun or 0} {have} not begun"
        if self._budget.hours is not None and " GPU " not in self.reason:
            return Conclusion(f"{said}. Train on, for example for 2 h, with: {again} --hours 2")
        return Conclusion(f"{said}. Raise budget.gpu_hours in {folder.place}/sweep.yaml, then: {again}")

    def _compare(self, run: str, value: object) -> None:
        if self.reason or self._target is None or not isinstance(value, int | float):
            return
        at = self._target.at
        if value >= at if self._mode == "max" else value <= at:
            self.at_target = True
            self.reason = f"trial {run} reached the target: {self._metric} is {value:g}, and stop.at is {at:g}"


def limited(searcher: Searcher, scheduler: TrialScheduler) -> None:
    """Let a searcher and a scheduler end the sweep at the `Limits.current`."""
    for one, name, acts in (
        (searcher, "suggest", _suggest),
        (scheduler, "on_trial_result", _on_trial_result),
        (scheduler, "on_trial_complete", _on_trial_complete),
        (scheduler, "choose_trial_to_run", _choose_trial_to_run),
    ):
        setattr(one, name, partial(acts, getattr(one, name)))


def _suggest(then: Callable[[str], Config | None], trial_id: str) -> Config | None:
    limits = Limits.current
    return FINISHED if limits is not None and limits.over() else then(trial_id)


def _on_trial_result(
    then: Callable[[TuneController, Trial, Document], str], controller: TuneController, trial: Trial, result: Document
) -> str:
    limits, decision = Limits.current, then(controller, trial, result)
    if limits is None:
        return decision
    limits.heard(TrialConfig(**trial.config), result)
    if decision == TrialScheduler.CONTINUE and limits.over():
        limits.cut(TrialConfig(**trial.config))
        return TrialScheduler.STOP
    return decision


def _on_trial_complete(
    then: Callable[[TuneController, Trial, Document], None], controller: TuneController, trial: Trial, result: Document
) -> None:
    limits, config = Limits.current, TrialConfig(**trial.config)
    if limits is not None and limits.reason_of(config.run) is None:  # otherwise it was heard of with the decision
        limits.heard(config, result)
    then(controller, trial, result)


def _choose_trial_to_run(then: Callable[[TuneController], Trial | None], controller: TuneController) -> Trial | None:
    """Remove the trials that wait for a place, once the sweep ends."""
    limits = Limits.current
    if limits is None or not limits.over():
        return then(controller)
    trials: list[Trial] = controller.get_trials()  # type: ignore[no-untyped-call]
    for trial in [trial for trial in trials if trial.status == trial.PENDING]:
        limits.cut(TrialConfig(**trial.config))
        controller.stop_trial(trial)  # type: ignore[no-untyped-call]
    return None
