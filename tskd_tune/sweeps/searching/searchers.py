"""A searcher of Ray Tune that asks an Optuna study for points; a resumed run gives it all earlier results."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from random import Random

import optuna
from optuna.samplers import BaseSampler, BruteForceSampler, GPSampler, RandomSampler, TPESampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from tskd_tune.errors import InputError, RunError
from tskd_tune.reports.findings.importance import STUDY
from tskd_tune.sweeps.messages.trial_config import TrialConfig
from tskd_tune.sweeps.searching.divergence import DIVERGED, LearningStorage
from tskd_tune.sweeps.searching.known import Known
from tskd_tune.sweeps.searching.mirror import Mirror
from tskd_tune.sweeps.searching.objectives import Goals, means, value_of
from tskd_tune.sweeps.searching.proposals import drawing_from, failure_of, has_diverged
from tskd_tune.sweeps.searching.run_searcher import FINISHED, Config, RunSearcher
from tskd_tune.sweeps.space.distinct import MOST_MISSES, candidates, experiment_key, is_listed
from tskd_tune.sweeps.space.domains import Picked
from tskd_tune.sweeps.space.points import Point
from tskd_tune.sweeps.space.search_space import SearchSpace
from tskd_tune.sweeps.space.starting_points import point_of

# How often a sampler is asked for a point that no trial has, before a point is drawn at random.
MOST_PROPOSALS = 10
# The attribute of a proposal that names the trial of the same experiment.
SAME_AS = "same_as"
# The attribute of a trial that keeps the starting point that was given for the trial.
START = "start"
# These samplers keep nothing beside the trials of the study, so earlier trials need not be asked of them again.
FROM_TRIALS_ALONE = (TPESampler, GPSampler, RandomSampler, BruteForceSampler)


class OptunaSearcher(RunSearcher):
    """An Optuna study in memory, mirrored to a file for optuna-dashboard.

    Tune's own searcher for Optuna reports a stopped trial as complete, so a short training counts as a full one. It
    leaves a trial without a metric running for ever, and fails if a database has more trials than the restored state.

    No experiment is trained twice: a sampler that proposes a known experiment gets the known result and is asked again.
    """

    hears_several = True  # a result may tell several epochs (see `tskd_tune.sweeps.scheduling.awaiting`)

    def __init__(
        self,
        space: SearchSpace,
        describe: Callable[[Point], TrialConfig],
        goals: Goals,
        *,
        sampler: BaseSampler,
        trials: int,
        journal: Path | None,
        starts: Sequence[Mapping[str, Picked]] = (),
        resampled: Callable[[int], BaseSampler] | None = None,
        guard: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """Search ``space`` with ``trials`` trials.

        Args:
            space: the search space.
            describe: makes a trial's config from a point.
            goals: the objectives with their modes.
            sampler: Optuna's sampler, seeded.
            trials: how many points to suggest.
            journal: the file of the mirror; None for none.
            starts: the points to try first, search parameter -> value; parameters that are left out are drawn.
            resampled: makes the sampler of a resumed search from the number of its known trials.
            guard: makes a context in which the sampler's code runs, which names the sampler in its errors.
        """
        super().__init__(goals)
        self._space, self._describe, self._trials, self._goals = space, describe, trials, dict(goals)
        # Optuna would print a message for every new study on the terminal that shows the sweep's progress.
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._starts, self._resampled, self._guard = [dict(values) for values in starts], resampled, guard
        self._mirror = None if journal is None else Mirror(journal, list(goals))
        self._begin(sampler)

    def _begin(self, sampler: BaseSampler) -> None:
        """Begin the search, without a trial."""
        self._study = self._new_study(sampler)
        for values in self._starts:
            self._study.enqueue_trial(values, user_attrs={START: values})
        # The highest number of a trial's folder; the study may not know the trial.
        self._highest = -1
        self._running: dict[str, Trial] = {}
        self._reported: dict[str, int] = {}
        self._finished: set[str] = set()
        # Identity of an experiment -> its trial; trial -> proposals of the same experiment while the trial trained.
        self._taken: dict[str, str] = {}
        self._echoes: dict[str, list[Trial]] = {}
        # The trials that an earlier process began; they are suggested first: trial, config and number.
        self._again: list[tuple[Trial, TrialConfig, int]] = []

    @property
    def study(self) -> Study:
        """The study, in memory, as its sampler reads it: a diverged trial is the worst (see `LearningStorage`)."""
        return self._study

    def suggest(self, trial_id: str) -> Config | None:
        """Return the config of a point that no trial has; `FINISHED` after the last trial, or without another point."""
        if not self._again and len(self._running) + len(self._finished) >= self._trials:
            return FINISHED
        if self._mirror is not None:
            self._mirror.open(self._study.directions, self._trained())
        if self._again:
            trial, config, number = self._again.pop(0)
            self._reported[trial_id] = self._reported.pop(_name_of_known(number), -1)
            return self._issued(trial, trial_id, config, number)
        number = 1 + max([self._highest, *(trial.user_attrs.get("number", -1) for trial in self._kept())])
        found = self._untrained()
        if found is None:
            self._warn()
            return FINISHED
        trial, point, config = found
        trial.set_user_attr("label", point.label)
        return self._issued(trial, trial_id, config, number)

    def _issued(self, trial: Trial, trial_id: str, config: TrialConfig, number: int) -> Config:
        # The mirror numbers trials as they finish; this is the number that names the trial's folder.
        trial.set_user_attr("number", number)
        trial.set_user_attr("trial", trial_id)
        self._running[trial_id] = trial
        self._taken[experiment_key(config)] = trial_id
        return replace(config, number=number).plain()

    def _warn(self) -> None:
        found = len(self._running) + len(self._finished)
        warnings.warn(
            f"search.trials: is {self._trials}, but the space has no experiment that differs from the {found} of this"
            f" search; the search ends with {found} trials",
            stacklevel=3,
        )

    def take_up(self, known: Mapping[int, Known], *, highest: int = -1) -> None:
        """Learn the trials of an earlier process; those that have not ended are suggested first.

        If the trials were trained one after the other, the sampler proposes the same points again with the same
        results, and the search goes on as if it had never been cut off. Otherwise the sampler is told the points.
        """
        mirror, self._mirror = self._mirror, None
        if known and not self._repeats(known):
            self._tell_all(known)
        self._highest = max([highest, *known])
        self._mirror = mirror

    def _repeats(self, known: Mapping[int, Known]) -> bool:
        """Search again with the known results; return whether every proposal was the known point of this number."""
        if sorted(known) != list(range(len(known))):
            return False
        for number in range(len(known)):
            found = self._untrained()
            if found is None or _plain(found[1].values) != _plain(known[number].point):
                return False
            self._issue_known(found, number, known[number])
        return True

    def _tell_all(self, known: Mapping[int, Known]) -> None:
        """Begin a new study and add the known trials; the sampler gets another seed, and does not repeat its draws."""
        sampler = self._resampled or (lambda known: self._study.sampler)
        starts, self._starts = self._starts, []
        self._begin(sampler(0))
        self._starts = starts
        if isinstance(self._study.sampler, FROM_TRIALS_ALONE):
            self._study.sampler = RandomSampler(seed=0)  # which is faster, as its draws are not used
        for number in sorted(known):
            self._study.enqueue_trial(point_of(self._space, known[number].point, f"trial {number:05d}"))
            trial, point = self._ask()
            self._issue_known((trial, point, self._describe(point)), number, known[number])
        for number, values in enumerate(self._starts):
            if number not in known:
                self._study.enqueue_trial(values, user_attrs={START: values})
        self._study.sampler = sampler(len(known))

    def _issue_known(self, found: tuple[Trial, Point, TrialConfig], number: int, known: Known) -> None:
        trial, point, config = found
        trial.set_user_attr("label", point.label)
        trial_id = _name_of_known(number)
        self._issued(trial, trial_id, config, number)
        for result in known.results:
            self.on_trial_result(trial_id, result.plain())
        if known.end is None:
            del self._running[trial_id]
            self._again.append((trial, config, number))
        else:
            self.on_trial_complete(trial_id, known.end.plain())

    def _new_study(self, sampler: BaseSampler) -> Study:
        minimized, maximized = StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE
        directions = [minimized if mode == "min" else maximized for mode in self._goals.values()]
        self._storage = LearningStorage(ranks_stopped=isinstance(sampler, TPESampler))
        return optuna.create_study(study_name=STUDY, sampler=sampler, directions=directions, storage=self._storage)

    def _kept(self) -> list[FrozenTrial]:
        return self._storage.kept(self._study)

    def on_trial_result(self, trial_id: str, result: Config) -> None:
        """Report the metric of each epoch of a result to the study, unless it was reported before or is not finite.

        With several objectives nothing is reported, because Optuna accepts no such reports. The number that a diverged
        trial reports for Tune's schedulers is not a metric.
        """
        trial = self._running.get(trial_id)
        if trial is None or len(self._goals) > 1:
            return
        for epoch, numbers in _epochs_of(result):
            value = value_of(self.metric, numbers)
            if value is not None and epoch > self._reported.get(trial_id, -1):
                trial.report(value, epoch)
                self._reported[trial_id] = epoch

    def on_trial_complete(self, trial_id: str, result: Config | None = None, error: bool = False) -> None:
        """Tell the study how a trial ended: complete, stopped, diverged or broken. A second call changes nothing."""
        if trial_id not in self._running:
            return
        result = result or {}
        values = {name: value_of(name, result) for name in self._goals}
        failure = failure_of(result, error, values)
        if failure is not None:
            if not error and has_diverged(result, values):
                self._running[trial_id].set_user_attr(DIVERGED, failure)
            self.on_trial_result(trial_id, {**result, "failed": failure})  # the epochs before it
            self._tell(trial_id, TrialState.FAIL, failure=failure)
            return
        # Tune passes the result at which a scheduler stops a trial only to this method.
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
        told = None
        with suppress(RunError), self._guard():  # the error is raised when the next trial is chosen
            told = self._study.tell(trial, values, state)
        if told is None:
            return
        for echo in self._echoes.pop(trial_id, []):
            self._repeat(echo, told)
        if self._mirror is not None:
            self._mirror.add(told, self._study.directions, self._trained())

    def _ask(self) -> tuple[Trial, Point]:
        with self._guard():
            trial = self._study.ask()
            return trial, self._space.sample(drawing_from(trial))

    def _untrained(self) -> tuple[Trial, Point, TrialConfig] | None:
        """Ask for a point that no trial has. If the sampler proposes only known points, draw one at random.

        Returns:
            None if every experiment of the space has its trial: to train one again would give the same result.
        """
        told: set[str] = set()
        for _ in range(MOST_PROPOSALS):
            trial, point = self._ask()
            config = self._describe(point)
            twin = self._taken.get(experiment_key(config))
            if twin is None:
                return trial, point, config
            self._tell_known(trial, twin, weigh=twin not in told)
            told.add(twin)
        drawn = self._drawn()
        if drawn is None:
            return None
        self._study.enqueue_trial(drawn)
        trial, point = self._ask()
        return trial, point, self._describe(point)

    def _drawn(self) -> dict[str, Picked] | None:
        """Draw a point that no trial has, search parameter -> value; None if no such point is found."""
        seed = len(self._kept())
        points = candidates(self._space, seed)
        found = list(points if is_listed(self._space) else islice(points, MOST_MISSES))
        Random(seed).shuffle(found)
        for point in found:
            with suppress(InputError):
                if experiment_key(self._describe(point)) not in self._taken:
                    return self._space.picks(point)
        return None

    def _tell_known(self, trial: Trial, twin: str, *, weigh: bool) -> None:
        """Tell the study a proposal's known result, once per request; otherwise the result would weigh too much."""
        trial.set_user_attr(SAME_AS, twin)
        source = next((other for other in self._trained() if other.user_attrs.get("trial") == twin), None)
        if weigh and twin in self._running:
            self._echoes.setdefault(twin, []).append(trial)
        elif weigh and source is not None:
            self._repeat(trial, source)
        else:
            self._study.tell(trial, state=TrialState.FAIL)

    def _repeat(self, trial: Trial, source: FrozenTrial) -> None:
        """End a proposal with the result of the trial of the same experiment."""
        if source.state == TrialState.COMPLETE:
            self._study.tell(trial, source.values)
            return
        if DIVERGED in source.user_attrs:
            trial.set_user_attr(DIVERGED, source.user_attrs[DIVERGED])
        for epoch, value in source.intermediate_values.items() if source.state == TrialState.PRUNED else ():
            trial.report(value, epoch)
        self._study.tell(trial, state=source.state)

    def _trained(self) -> list[FrozenTrial]:
        """Return the trials that have ended, each with its last result, without proposals of a known experiment."""
        ended = [trial for trial in self._kept() if trial.state.is_finished() and SAME_AS not in trial.user_attrs]
        found = {trial.user_attrs.get("trial", trial.number): trial for trial in ended}
        return [trial for trial_id, trial in found.items() if trial_id not in self._running]


def _epochs_of(result: Config) -> Iterator[tuple[int, Config]]:
    """Return the epochs of a result with their means over the seeds; the last epoch of a failed trial has none."""
    last = result.get("epoch")
    if last is None:
        return
    earlier: dict[int, list[Config]] = {}
    for record in result.get("records", []):
        if record["epoch"] < last:
            earlier.setdefault(record["epoch"], []).append(record)
    yield from ((epoch, means(records)) for epoch, records in sorted(earlier.items()))
    if not result.get("failed"):
        yield last, result


def _name_of_known(number: int) -> str:
    """Return the name of a trial of an earlier process, in place of Tune's."""
    return f"known-{number:05d}"


def _plain(point: Mapping[str, object]) -> str:
    """Return a point as text, which is the same before and after it was written to a file."""
    return json.dumps(point, sort_keys=True)
