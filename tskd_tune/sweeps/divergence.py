"""What a sampler learns from trials that diverged: each counts as the worst trial that was measured.

Optuna's samplers leave failed trials out of their models, so a search would propose diverging points again and again.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from copy import copy, deepcopy
from typing import Final

from optuna.storages import InMemoryStorage
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

# The attribute of a trial that keeps why it diverged.
DIVERGED: Final = "diverged"


class LearningStorage(InMemoryStorage):
    """Keeps a trial that diverged as failed, and shows it to samplers as the worst of all.

    Its values are no measurement, so they are not kept: whenever the trials are read, a diverged trial is complete with
    the worst value of each objective among the trials measured so far. It is shown as it is kept while there are none.
    Whoever reads a single trial, or the best one, sees what is kept.
    """

    def __init__(self, *, ranks_stopped: bool) -> None:
        """Begin without a study.

        Args:
            ranks_stopped: whether the sampler ranks trials that a scheduler stopped, which it does below all complete
                ones. Where there are such trials, a diverged trial is shown as one that was stopped before its first
                epoch, which is below every other.
        """
        super().__init__()
        self._ranks_stopped = ranks_stopped

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Return the trials of a study, those that diverged in the form that the class describes."""
        if states == (TrialState.WAITING,):  # no trial that has begun
            return super().get_all_trials(study_id, deepcopy, states)
        kept = super().get_all_trials(study_id, deepcopy=False)
        shown = _shown(kept, self.get_study_directions(study_id), self._ranks_stopped)
        wanted = [trial for trial in shown if states is None or trial.state in states]
        return _copied(wanted) if deepcopy else wanted


def kept(study: Study) -> list[FrozenTrial]:
    """Return the trials of a study in memory as they are kept: a diverged one is failed, without a value."""
    storage = study._storage
    assert isinstance(storage, InMemoryStorage)
    return InMemoryStorage.get_all_trials(storage, study._study_id, deepcopy=False)


def _copied(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    return deepcopy(trials)


def _shown(
    trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection], ranks_stopped: bool
) -> list[FrozenTrial]:
    stopped = any(trial.state == TrialState.PRUNED for trial in trials)
    if ranks_stopped and stopped and len(directions) == 1:
        return [_as_stopped(trial) if _diverged(trial) else trial for trial in trials]
    values = _worst(trials, directions)
    return [_as_complete(trial, values) if values and _diverged(trial) else trial for trial in trials]


def _diverged(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.FAIL and DIVERGED in trial.user_attrs


def _worst(trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection]) -> list[float]:
    """Return the worst value of each objective, that of stopped trials at their last epoch; none of no trial."""
    known = [trial.values for trial in trials if trial.values is not None and trial.state.is_finished()]
    columns = zip(*known, strict=True)
    return [
        max(column) if direction == StudyDirection.MINIMIZE else min(column)
        for column, direction in zip(columns, directions, strict=False)
    ]


def _as_complete(trial: FrozenTrial, values: list[float]) -> FrozenTrial:
    shown = copy(trial)
    shown.state, shown.values = TrialState.COMPLETE, values
    return shown


def _as_stopped(trial: FrozenTrial) -> FrozenTrial:
    shown = copy(trial)
    shown.state, shown.intermediate_values = TrialState.PRUNED, {}
    return shown
