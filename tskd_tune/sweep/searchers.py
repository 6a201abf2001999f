"""Two searchers of Ray Tune, which survive the death of the driver: a list of points, and an Optuna study.

Tune saves a searcher every ten seconds or so beside its own list of trials, in several files; a driver that is
killed may leave files of two moments. So what is restored is compared with Tune's list, which is what goes on.
"""

from __future__ import annotations

import json
import logging
import pickle
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, cast
from warnings import catch_warnings, simplefilter

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState
from ray.tune.search import Searcher

from tskd_tune.errors import RunError
from tskd_tune.reports.importance import STUDY
from tskd_tune.reports.pareto import COSTS
from tskd_tune.sweep.objectives import Goals, value_of
from tskd_tune.sweep.snapshot import newest
from tskd_tune.sweep.space import Hole, Pick, Point, SearchSpace

LOG = logging.getLogger(__name__)
# The attribute of a trial that keeps the point that it was told to start from.
START = "start"
Config = dict[str, Any]
# Tune takes this word in place of a config, though its own signature does not say so.
FINISHED = cast(Config, Searcher.FINISHED)


class _SavedSearcher(Searcher, ABC):
    """A searcher whose state is the attributes that it lists, in one pickle."""

    saved: ClassVar[tuple[str, ...]] = ()

    def set_search_properties(self, metric: str | None, mode: str | None, config: Config, **spec: Any) -> bool:
        """Accept a metric and a mode that are this searcher's own."""
        return metric in (None, self.metric) and mode in (None, self.mode)

    def save(self, checkpoint_path: str) -> None:
        """Write the state to a file."""
        state = {name: getattr(self, name) for name in self.saved}
        Path(checkpoint_path).write_bytes(pickle.dumps(state))

    def restore(self, checkpoint_path: str) -> None:
        """Read the state from a file; what lies beside it of Tune's own says which trials there are.

        Raises:
            RunError: the file is not whole.
        """
        path = Path(checkpoint_path)
        try:
            state = pickle.loads(path.read_bytes())
        except (EOFError, pickle.UnpicklingError) as error:
            raise RunError(
                f"{path}: the searcher's state is not whole ({error}); remove this file to go on from an older one"
            ) from error
        for name, value in state.items():
            setattr(self, name, value)
        trials = newest(path.parent)
        if trials is not None:
            self._agree_with({trial["trial_id"]: trial["config"] for trial in trials})
        self._restored()

    @abstractmethod
    def _agree_with(self, trials: Mapping[str, Config]) -> None:
        """Make the state agree with the trials that Tune has."""

    def _restored(self) -> None:
        """Take up again what is not part of the state."""


class ListedPoints(_SavedSearcher):
    """Points that were all listed in advance, each suggested once, in order."""

    saved = ("_issued",)

    def __init__(self, configs: Sequence[Config], goals: Goals | None = None) -> None:
        """Suggest ``configs``, plain data, each with its ``number``, by default its place.

        Without objectives results need none.
        """
        super().__init__(*_lead(goals) if goals else (None, None))
        self._configs = [{"number": number, **config} for number, config in enumerate(configs)]
        self._issued: dict[str, int] = {}

    def suggest(self, trial_id: str) -> Config | None:
        """Return the first config that no trial has, or that there is none."""
        free = sorted(set(range(len(self._configs))) - set(self._issued.values()))
        if not free:
            return FINISHED
        self._issued[trial_id] = free[0]
        return self._configs[free[0]]

    def on_trial_complete(self, trial_id: str, result: Config | None = None, error: bool = False) -> None:
        """Learn nothing: the list is the list."""

    def _agree_with(self, trials: Mapping[str, Config]) -> None:
        places = {_text(config): place for place, config in enumerate(self._configs)}
        found = {trial_id: self._issued.get(trial_id, places.get(_text(config))) for trial_id, config in trials.items()}
        self._issued = {trial_id: place for trial_id, place in found.items() if place is not None}


class OptunaSearcher(_SavedSearcher):
    """An Optuna study in memory, pickled with the searcher and mirrored to a file for optuna-dashboard.

    Tune's own searcher for Optuna tells a stopped trial as complete, so that low budgets pass for full ones, leaves
    a trial without a metric running for ever, and fails where a database is ahead of what was restored.
    """

    saved = ("_study", "_running", "_reported", "_finished")

    def __init__(
        self,
        space: SearchSpace,
        describe: Callable[[Point], Config],
        goals: Goals,
        *,
        sampler: BaseSampler,
        trials: int,
        journal: Path | None,
        starts: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Search ``space`` with ``trials`` trials.

        Args:
            space: the search space.
            describe: makes a trial's config, plain data, out of a point.
            goals: the objectives with their modes.
            sampler: Optuna's sampler, seeded.
            trials: how many points to suggest.
            journal: the file of the mirror; None for none.
            starts: what to try first, by hole; holes that are left out are drawn.
        """
        super().__init__(*_lead(goals))
        self._space, self._describe, self._trials, self._goals = space, describe, trials, dict(goals)
        # Optuna tells of every study that is made, on the terminal that shows the sweep's progress.
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        directions = [StudyDirection.MINIMIZE if mode == "min" else StudyDirection.MAXIMIZE for mode in goals.values()]
        self._study = optuna.create_study(study_name=STUDY, sampler=sampler, directions=directions)
        for values in starts:
            self._study.enqueue_trial(dict(values), user_attrs={START: dict(values)})
        self._mirror = None if journal is None else _Mirror(journal, list(goals))
        self._running: dict[str, Trial] = {}
        self._reported: dict[str, int] = {}
        self._finished: set[str] = set()

    @property
    def study(self) -> Study:
        """The study, in memory."""
        return self._study

    def suggest(self, trial_id: str) -> Config | None:
        """Draw a point from the study, or return that all were drawn."""
        if len(self._running) + len(self._finished) >= self._trials:
            return FINISHED
        if self._mirror is not None:
            self._mirror.open(self._study)
        trial = self._study.ask()
        point = self._space.sample(_drawing_from(trial))
        trial.set_user_attr("label", point.label)
        # The mirror numbers trials as they finish; this is the number that names the trial's folder.
        trial.set_user_attr("number", trial.number)
        trial.set_user_attr("trial", trial_id)
        self._running[trial_id] = trial
        return {**self._describe(point), "number": trial.number}

    def on_trial_result(self, trial_id: str, result: Config) -> None:
        """Keep the metric of an epoch; an epoch that was already told, or has no finite metric, is passed over.

        Of several objectives none is kept, as Optuna has no place for them.
        """
        trial, value, epoch = self._running.get(trial_id), value_of(self.metric, result), result.get("epoch")
        if trial is None or value is None or epoch is None or epoch <= self._reported.get(trial_id, -1):
            return
        if len(self._goals) > 1:
            return
        trial.report(value, epoch)
        self._reported[trial_id] = epoch

    def on_trial_complete(self, trial_id: str, result: Config | None = None, error: bool = False) -> None:
        """Tell the study how a trial ended: complete, stopped early or failed. A second telling changes nothing."""
        if trial_id not in self._running:
            return
        result = result or {}
        values = {name: value_of(name, result) for name in self._goals}
        failure = _failure(result, error, values)
        if failure is not None:
            self._tell(trial_id, TrialState.FAIL, failure=failure)
            return
        # Tune tells the result at which a scheduler stops a trial here only.
        self.on_trial_result(trial_id, result)
        if result.get("epoch", 0) + 1 < result.get("epochs", 0):
            self._tell(trial_id, TrialState.PRUNED)
        else:
            self._tell(trial_id, TrialState.COMPLETE, [value for value in values.values() if value is not None])

    def _tell(self, trial_id: str, state: TrialState, values: Sequence[float] | None = None, failure: str = "") -> None:
        trial = self._running.pop(trial_id)
        self._reported.pop(trial_id, None)
        self._finished.add(trial_id)
        if failure:
            trial.set_user_attr("failed", failure)
        told = self._study.tell(trial, values, state)
        if self._mirror is not None:
            self._mirror.add(told, self._study)

    def _agree_with(self, trials: Mapping[str, Config]) -> None:
        for trial_id in [trial_id for trial_id in self._running if trial_id not in trials]:
            start = self._running[trial_id].user_attrs.get(START)
            if start is not None:
                self._study.enqueue_trial(start, user_attrs={START: start})
            self._tell(trial_id, TrialState.FAIL, failure="lost when the driver was killed; another takes its place")
        # What Tune has and the study has not will be trained and counted, without the study learning from it.
        self._finished = set(trials) - set(self._running)

    def _restored(self) -> None:
        if self._mirror is not None:
            self._mirror.write(self._study)


class _Mirror:
    """The finished trials of a study in a journal file; a file that cannot be written is told of once and given up."""

    def __init__(self, path: Path, names: list[str]) -> None:
        self._path, self._names = path, names
        self._copy: Study | None = None
        self._given_up = False

    def open(self, study: Study) -> None:
        """Write the file unless it is there: a dashboard that is opened early would make an empty one."""
        if self._copy is None:
            self.write(study)

    def write(self, study: Study) -> None:
        """Write the whole file anew."""
        self._attempt(lambda: self._write(study))

    def add(self, trial: FrozenTrial, study: Study) -> None:
        """Append a trial that has just finished; a file that is not open is written anew."""
        if self._copy is None:
            self.write(study)
        else:
            self._attempt(lambda: self._append(trial))

    def _append(self, trial: FrozenTrial) -> None:
        assert self._copy is not None
        self._copy.add_trial(trial)

    def _write(self, study: Study) -> None:
        part = self._path.with_name(f".{self._path.name}.part")
        part.unlink(missing_ok=True)
        # A driver that was killed while writing leaves the lock behind, which Optuna waits for.
        self._path.with_name(f"{self._path.name}.lock").unlink(missing_ok=True)
        copy = optuna.create_study(storage=_journal(part), study_name=STUDY, directions=study.directions)
        with catch_warnings():
            # That names of objectives are new in Optuna is no news to a user.
            simplefilter("ignore", ExperimentalWarning)
            copy.set_metric_names(self._names)
        for trial in study.get_trials(deepcopy=False):
            if trial.state.is_finished():
                copy.add_trial(trial)
        part.replace(self._path)
        self._copy = optuna.load_study(study_name=STUDY, storage=_journal(self._path))

    def _attempt(self, write: Callable[[], None]) -> None:
        if self._given_up:
            return
        try:
            write()
        except Exception as error:  # the search goes on without its mirror, whatever Optuna raises
            self._given_up, self._copy = True, None
            LOG.warning("%s: cannot be written (%s); the search goes on without it", self._path, error)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the open file behind; it is written anew where this is read."""
        return {**self.__dict__, "_copy": None}


def _journal(path: Path) -> JournalStorage:
    return JournalStorage(JournalFileBackend(str(path)))


def _drawing_from(trial: Trial) -> Pick:
    def pick(hole: Hole) -> Any:
        if not hole.is_range:
            return trial.suggest_categorical(hole.name, hole.labels)
        if hole.kind == "int":
            low, high = hole.extremes()
            return trial.suggest_int(hole.name, low, high, step=hole.step)
        return trial.suggest_float(hole.name, hole.low, hole.high, log=hole.kind == "loguniform")

    return pick


def _lead(goals: Goals) -> tuple[str, str]:
    """Return the metric, with its mode, that every result of a trial has to carry."""
    metric = next(name for name in goals if name not in COSTS)
    return metric, goals[metric]


def _failure(result: Mapping[str, Any], error: bool, values: Mapping[str, float | None]) -> str | None:
    if result.get("failed"):
        return str(result["failed"])
    if error:
        return "the trial ended with an error"
    missing = [name for name, value in values.items() if value is None]
    return f"the last result has no finite '{missing[0]}'" if missing else None


def _text(config: Config) -> str:
    return json.dumps(config, sort_keys=True)
