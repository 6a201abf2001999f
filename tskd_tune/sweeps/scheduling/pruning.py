"""A scheduler of Ray Tune that asks a pruner of Optuna which trials to stop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress

import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner
from optuna.samplers import RandomSampler
from optuna.study import StudyDirection
from optuna.trial import Trial, TrialState, create_trial

from tskd_tune.errors import RunError
from tskd_tune.reports.findings.importance import STUDY
from tskd_tune.sweeps.scheduling.judging import Judging

NO_PARAMETERS: Mapping[str, BaseDistribution] = {}

Guard = Callable[[], AbstractContextManager[None]]
"""Makes a context in which the pruner's code runs, which names the pruner in its errors."""


class Pruning(Judging):
    """Reports each epoch of each trial to a study of Optuna, and stops the trials that the study's pruner prunes.

    A step of the study is a number of trained epochs. The number of a trial is that of the sweep, because Hyperband
    draws the bracket of a trial from this number.
    """

    def __init__(self, pruner: BasePruner, metric: str, mode: str, *, grace: int, guard: Guard = nullcontext) -> None:
        """Compare trials after each epoch.

        Args:
            pruner: Optuna's pruner.
            metric: the key of the number that is compared.
            mode: ``max`` or ``min``.
            grace: number of trained epochs before the pruner is asked; it is told of earlier epochs too.
            guard: names the pruner in its errors.
        """
        super().__init__(metric, mode)
        self._study, self._grace, self._guard = new_study(pruner, mode), grace, guard
        self._trials: list[Trial] = []
        self._reported: dict[int, int] = {}
        self._ended: set[int] = set()

    def debug_string(self) -> str:
        """Return one line for Tune's log."""
        return f"{type(self._study.pruner).__name__} of Optuna, after {self._grace} epochs"

    def is_behind(self, number: int, result: Mapping[str, object]) -> bool:
        """Report the result of an epoch, and return whether the pruner prunes the trial."""
        epoch, value = result.get("epoch"), result.get(self.judged_by)
        if not isinstance(epoch, int) or not isinstance(value, int | float) or number in self._ended:
            return False
        step, trial = epoch + 1, self._trial(number)
        if step <= self._reported.get(number, 0):
            return False
        self._reported[number] = step
        with suppress(RunError), self._guard():  # the error is raised when the next trial is chosen
            trial.report(value, step)
            return step >= self._grace and trial.should_prune()
        return False

    def finish(self, number: int, result: Mapping[str, object]) -> None:
        """Tell the study how a trial ended: complete, pruned, or failed if it diverged or broke."""
        if number in self._ended:
            return
        failed, value = result.get("failed"), result.get(self.judged_by)
        if not failed:
            self.is_behind(number, result)
        self._ended.add(number)
        with suppress(RunError), self._guard():
            if failed or not isinstance(value, int | float):
                self._study.tell(self._trial(number), state=TrialState.FAIL)
            elif _whole(result):
                self._study.tell(self._trial(number), value)
            else:
                self._study.tell(self._trial(number), state=TrialState.PRUNED)

    def _trial(self, number: int) -> Trial:
        while len(self._trials) <= number:
            self._trials.append(self._study.ask())
        return self._trials[number]


class SeedPruning(Judging):
    """Stops a trial if a Wilcoxon test over its seeds says that it is worse than the best whole trial, at equal epochs.

    Optuna's pruner compares a trial with the best one step by step. Here a step is a seed, because the epochs of one
    training are no independent pairs, and its value is the seed's metric after the same number of epochs.
    """

    def __init__(
        self,
        pruner: BasePruner,
        metric: str,
        mode: str,
        *,
        grace: int,
        least_seeds: int,
        guard: Guard = nullcontext,
    ) -> None:
        """Compare trials after each epoch; ``least_seeds`` is the smallest number of seeds that can be significant."""
        super().__init__(metric, mode)
        self.least_seeds = least_seeds
        self._pruner, self._grace, self._guard = pruner, grace, guard
        # Number of a trial -> epoch -> seed -> value; number of a whole trial -> its last value, larger is better.
        self._values: dict[int, dict[int, Mapping[int, float]]] = {}
        self._ended: dict[int, float] = {}

    def debug_string(self) -> str:
        """Return one line for Tune's log."""
        return f"{type(self._pruner).__name__} of Optuna over seeds, after {self._grace} epochs"

    def is_behind(self, number: int, result: Mapping[str, object]) -> bool:
        """Record the values of an epoch, and return whether the trial is worse than the best whole trial."""
        epoch, values = result.get("epoch"), _by_seed(result, self.judged_by)
        told = self._values.setdefault(number, {})
        if not isinstance(epoch, int) or not values or epoch in told:
            return False
        told[epoch] = values
        best = max(self._ended, key=lambda one: self._ended[one], default=None)
        if epoch + 1 < self._grace or best is None or best == number or epoch not in self._values[best]:
            return False
        return self._prunes(values, self._values[best][epoch])

    def finish(self, number: int, result: Mapping[str, object]) -> None:
        """Record the last result; a whole trial may be the best one."""
        if result.get("failed"):
            return
        self.is_behind(number, result)
        value = result.get(self.judged_by)
        if isinstance(value, int | float) and _whole(result):
            self._ended[number] = value if self.mode == "max" else -value

    def _prunes(self, values: Mapping[int, float], best: Mapping[int, float]) -> bool:
        study = new_study(self._pruner, self.mode)
        mean = sum(best.values()) / len(best)
        study.add_trial(create_trial(value=mean, intermediate_values=dict(best)))
        trial = study.ask()
        with suppress(RunError), self._guard():
            for seed, value in values.items():
                trial.report(value, seed)
            return trial.should_prune()
        return False


def new_study(pruner: BasePruner, mode: str) -> optuna.Study:
    """Return a study in memory for a pruner; its sampler is never used."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    direction = StudyDirection.MINIMIZE if mode == "min" else StudyDirection.MAXIMIZE
    return optuna.create_study(study_name=STUDY, pruner=pruner, sampler=RandomSampler(seed=0), direction=direction)


def _whole(result: Mapping[str, object]) -> bool:
    epoch, epochs = result.get("epoch"), result.get("epochs")
    return isinstance(epoch, int) and isinstance(epochs, int) and epoch + 1 >= epochs


def _by_seed(result: Mapping[str, object], metric: str) -> dict[int, float]:
    """Return the metric of each seed after the last epoch of a result."""
    records = result.get("records")
    found: dict[int, float] = {}
    for record in records if isinstance(records, list) else []:
        value = record.get(metric)
        if record.get("epoch") == result.get("epoch") and isinstance(value, int | float):
            found[int(record["seed"])] = float(value)
    return found
