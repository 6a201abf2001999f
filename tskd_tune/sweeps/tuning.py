"""Runs the trials of a sweep on Ray Tune."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from ray import tune
from ray.tune.error import TuneError
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from tskd_tune.errors import RunError
from tskd_tune.records.breakage import reason_of
from tskd_tune.records.events import Listener
from tskd_tune.records.layout import TRIALS
from tskd_tune.records.run_folder import RunFolder
from tskd_tune.signals import noticed
from tskd_tune.sweeps import packing
from tskd_tune.sweeps.bundles import bundled
from tskd_tune.sweeps.recorder import Recorder
from tskd_tune.sweeps.resources import capacity, needed
from tskd_tune.sweeps.schema import Sweep
from tskd_tune.sweeps.shipped import Shipped
from tskd_tune.sweeps.trainable import SweepTrial
from tskd_tune.sweeps.trial_config import TrialConfig


@dataclass(frozen=True)
class Tuning:
    """How the trials of a run are trained.

    Attributes:
        sweep: the sweep.
        folder: the run's folder.
        shipped: the data that every trial receives.
    """

    sweep: Sweep
    folder: RunFolder
    shipped: Shipped

    @cached_property
    def places(self) -> int:
        """The number of trials that run at once."""
        return self.sweep.resources.concurrent or capacity(self.sweep)

    def bundles(self, configs: Sequence[TrialConfig], listener: Listener) -> list[TrialConfig]:
        """Put the trials of a grid into bundles, as ``resources.together`` asks."""
        together = self.sweep.resources.together
        if together == 1 or len(configs) < 2:
            return list(configs)
        if together == "auto":
            together = packing.fitting(configs, needed(self.sweep), listener)
        return bundled(configs, together, self.places)

    def train(self, searcher: Searcher, scheduler: TrialScheduler, trials: int) -> bool:
        """Train ``trials`` trials. Return False if a signal cut the run off, and otherwise True.

        Raises:
            RunError: Ray Tune ended with an error.
        """
        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(SweepTrial, shipped=self.shipped), needed(self.sweep)),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=scheduler,
                num_samples=trials,
                max_concurrent_trials=self.places,
                reuse_actors=True,
                trial_dirname_creator=_folder_name,
            ),
            run_config=tune.RunConfig(
                name=TRIALS,  # Ray Tune names the folder of the trials after its experiment
                storage_path=str(self.folder.path),
                verbose=0,
                callbacks=[Recorder()],
                failure_config=tune.FailureConfig(max_failures=self.sweep.max_failures),
                # Trials write their checkpoints themselves, while they train.
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            ),
        )
        return _uninterrupted(tuner.fit, self.folder)


def _folder_name(trial: tune.experiment.Trial) -> str:
    return TrialConfig(**trial.config).run


def _uninterrupted(fit: Callable[[], object], folder: RunFolder) -> bool:
    # Tune handles Ctrl-C itself: it ends the trials and returns as if they had finished.
    try:
        with noticed() as has_come:
            fit()
            return not has_come()
    except TuneError as error:
        raise RunError(f"{folder.path}: the sweep broke off ({reason_of(error)}); resume the run") from error
