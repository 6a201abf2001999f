"""Runs the trials of a sweep on Ray Tune."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

from ray import tune
from ray.tune.error import TuneError
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from tskd_tune.errors import RunError, reason
from tskd_tune.plain import Document
from tskd_tune.records.entries.events import Listener
from tskd_tune.records.runs.layout import TRIALS
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.records.sessions.breakage import reason_of
from tskd_tune.redaction import redacted
from tskd_tune.signals import noticed
from tskd_tune.sweeps import packing
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.limits import Limits, limited
from tskd_tune.sweeps.machines.growing import Growing
from tskd_tune.sweeps.machines.late_nodes import Placed, excused, none_excused, resources
from tskd_tune.sweeps.machines.resources import capacity, needed, reserved
from tskd_tune.sweeps.machines.waiting import Waiting
from tskd_tune.sweeps.messages.trial_config import TrialConfig
from tskd_tune.sweeps.on_ray import ray_private
from tskd_tune.sweeps.recorder import Recorder
from tskd_tune.sweeps.scheduling.awaiting import awaited
from tskd_tune.sweeps.searching.plug_in_errors import ending
from tskd_tune.sweeps.trials.bundles import bundled
from tskd_tune.sweeps.trials.shipped import Shipped
from tskd_tune.sweeps.trials.trainable import SweepTrial

Asked: TypeAlias = dict[str, float] | tune.PlacementGroupFactory | Callable[[Document], tune.PlacementGroupFactory]


@dataclass(frozen=True)
class Tuning:
    """How the trials of a run are trained.

    Attributes:
        sweep: the sweep.
        folder: the run's folder.
        shipped: the data that every trial receives.
        limits: what may end the run early.
        listener: is told what the trials wait for, and which machines join, leave or cannot train.
    """

    sweep: Sweep
    folder: RunFolder
    shipped: Shipped
    listener: Listener
    limits: Limits = field(default_factory=Limits)

    @cached_property
    def places(self) -> int:
        """The number of trials that run at once when the sweep begins."""
        return self.sweep.resources.concurrent or capacity(self.wanted, self.shipped.workers)

    @cached_property
    def wanted(self) -> dict[str, float]:
        """The resources of a trial, or of each of its workers."""
        return needed(self.sweep)

    def bundles(self, configs: Sequence[TrialConfig], listener: Listener) -> list[TrialConfig]:
        """Put the trials of a grid into bundles, as ``resources.together`` asks."""
        together = self.sweep.resources.together
        if together == 1 or len(configs) < 2:
            return list(configs)
        if together == "auto":
            together = packing.fitting(configs, self.wanted, listener)
        return bundled(configs, together, self.places)

    def train(self, searcher: Searcher, scheduler: TrialScheduler, trials: int) -> bool:
        """Train ``trials`` trials. Return False if a signal cut the run off, and otherwise True.

        Raises:
            RunError: Ray Tune ended with an error.
        """
        asked: Asked = self.wanted
        shipped = replace(self.shipped, awaited=awaited(searcher, scheduler))
        workers = shipped.workers
        if workers > 1:
            asked = tune.PlacementGroupFactory(reserved(self.wanted, workers))
        on_cluster = shipped.looked is not None
        if on_cluster:
            Placed.begin(self.wanted, self.listener, workers)
            asked = resources(self.wanted, workers)
        if self.limits.are_set:
            limited(searcher, scheduler)
        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(SweepTrial, shipped=shipped), asked),
            tune_config=tune.TuneConfig(
                search_alg=Growing(searcher, self.wanted, self.sweep.resources.concurrent, workers=workers),
                scheduler=scheduler,
                num_samples=trials,
                reuse_actors=True,
                trial_dirname_creator=_folder_name,
            ),
            run_config=tune.RunConfig(
                name=TRIALS,  # Ray Tune names the folder of the trials after its experiment
                storage_path=str(_tune_folder(self.folder)),
                verbose=0,
                callbacks=[Recorder(), Waiting()],
                failure_config=tune.FailureConfig(max_failures=self.sweep.max_failures),
                # Trials write their checkpoints themselves, while they train.
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            ),
        )
        with (
            Waiting.told(self.wanted, self.listener),
            Limits.held(self.limits),
            ending(scheduler),
            ray_private.failures_heard(excused if on_cluster else none_excused),
        ):
            return _uninterrupted(tuner.fit, self.folder)


def _tune_folder(folder: RunFolder) -> Path:
    """Return the folder for Ray Tune's own files, which nothing reads; nodes share it only if they share the run."""
    return folder.path if folder.remote is None else folder.remote.copy.root / "tune"


def _folder_name(trial: tune.experiment.Trial) -> str:
    return TrialConfig(**trial.config).run


def _uninterrupted(fit: Callable[[], object], folder: RunFolder) -> bool:
    # Tune handles Ctrl-C itself: it ends the trials and returns as if they had finished.
    try:
        with noticed() as has_come:
            fit()
            return not has_come()
    except TuneError as error:
        inner = error.__cause__ or error.__context__
        if isinstance(inner, RunError):  # of a searcher, a scheduler or the recorder, whose sentence is enough
            raise inner from error
        # Tune's own text is a traceback, whose end has the cause: it may be a user's scheduler or searcher.
        told = reason_of(error) if inner is None or isinstance(inner, TuneError) else redacted(reason(inner))
        raise RunError(
            f"{folder.place}: the sweep broke off ({told}); remove the cause, then resume the run"
        ) from error
