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

# The attribute of a trial that says why the trial diverged.
DIVERGED: Final = "diverged"


class LearningStorage(InMemoryStorage):
    """Stores a diverged trial as failed, and shows the trial to samplers as the worst of all.

    The shown values are not measured, so they are not stored. `get_all_trials` returns a diverged trial as complete,
    with the worst value of each objective among the trials measured so far. Before the first measured trial, a diverged
    trial is returned as failed. The methods that return a single trial or the best trial return it as stored.
    """

    def __init__(self, *, ranks_stopped: bool) -> None:
        """Begin without a study.

        Args:
            ranks_stopped: whether the sampler ranks trials that a scheduler stopped; they rank below all complete
                trials. If there are stopped trials, a diverged trial is shown as stopped before its first epoch, so
                the diverged trial ranks below every other trial.
        """
        super().__init__()
        self._ranks_stopped = ranks_stopped

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Return the trials of a study; diverged trials are shown as the class describes."""
        if states == (TrialState.WAITING,):  # no waiting trial has diverged
            return super().get_all_trials(study_id, deepcopy, states)
        kept = super().get_all_trials(study_id, deepcopy=False)
        shown = _shown(kept, self.get_study_directions(study_id), self._ranks_stopped)
        wanted = [trial for trial in shown if states is None or trial.state in states]
        return _copied(wanted) if deepcopy else wanted

    def kept(self, study: Study) -> list[FrozenTrial]:
        """Return the trials of one of this storage's studies as stored: a diverged trial is failed, without values."""
        return super().get_all_trials(self.get_study_id_from_name(study.study_name), deepcopy=False)


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
    """Return the worst value of each objective (of a stopped trial: at its last epoch); [] if there are no values."""
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
