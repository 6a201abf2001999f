"""A stand-in for Ray Tune and its cluster: trials train in this process, one epoch each in turn, without Ray."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray import cloudpickle, tune
from ray.exceptions import RayActorError
from ray.tune.result import SHOULD_CHECKPOINT
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from factories import pickled
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.teacher import obtain
from tskd_tune.sweeps import run, tuning
from tskd_tune.sweeps.machines import growing
from tskd_tune.sweeps.trials import trainable
from tskd_tune.training.teachers import TeacherCache


@dataclass
class Trial:
    """A trial as Ray Tune hands it to callbacks and schedulers."""

    trial_id: str
    config: dict[str, Any]
    last_result: dict[str, Any] = field(default_factory=dict)
    checkpoint: tune.Checkpoint | None = None
    failures: int = 0
    error: Exception | None = None
    trainable: Any = None

    error_file = None

    @property
    def pickled_error_file(self) -> str | None:
        return None if self.error is None else pickled(self.error)


@dataclass
class Cluster:
    """What the stand-in does to a run, and what the run asked it for.

    Attributes:
        asked: the arguments of every tuner, oldest first.
        results: how many results were reported so far.
        cut_off_after: so many results end a run, as Ctrl-C does; None for never.
        killed: trial's number -> epochs whose training its worker does not survive, each once.
        ended: what became of every trial: ``(number, epochs, stopped by the scheduler)``.
    """

    asked: list[SimpleNamespace] = field(default_factory=list)
    results: int = 0
    cut_off_after: int | None = None
    killed: dict[int, list[int]] = field(default_factory=dict)
    ended: list[tuple[int, int, bool]] = field(default_factory=list)


class Results(list[Trial]):
    """The trials of a tuner."""


def interrupt() -> None:
    """Receive Ctrl-C as Ray Tune does, which handles the signal itself and returns."""
    before = signal.signal(signal.SIGINT, lambda number, frame: None)
    signal.raise_signal(signal.SIGINT)
    signal.signal(signal.SIGINT, before)


def wait_for_checkpoints() -> None:
    """Wait for the checkpoints that are being written, as Python does where a worker's process ends."""
    for thread in threading.enumerate():
        if thread.name.startswith("checkpoint "):
            thread.join()


class Tuner:
    """Trains what the searcher suggests, with the calls of Ray Tune in their order."""

    def __init__(self, cluster: Cluster, trainable: Any, tune_config: Any, run_config: Any) -> None:
        self.cluster, self.trainable, self.asks, self.keeps = cluster, trainable, tune_config, run_config
        cloudpickle.dumps([tune_config.search_alg, tune_config.scheduler])  # as Tune does before it starts
        cluster.asked.append(SimpleNamespace(trainable=trainable, tune=tune_config, run=run_config))
        self.results = Results()

    def fit(self) -> Results:
        live: list[Trial] = []
        while True:
            while (trial := self._next()) is not None:
                live.append(trial)
            if not live:
                return self.results
            for trial in list(live):
                if self.cluster.results == self.cluster.cut_off_after:
                    interrupt()
                    wait_for_checkpoints()
                    return self.results
                if self._step(trial):
                    live.remove(trial)

    def _next(self) -> Trial | None:
        if len(self.results) >= self.asks.num_samples:
            return None
        trial_id = f"trial{len(self.results)}"
        config = self.asks.search_alg.suggest(trial_id)
        if config is None or config == Searcher.FINISHED:
            return None
        trial = Trial(trial_id, config)
        self.results.append(trial)
        self.asks.scheduler.on_trial_add(None, trial)
        trial.trainable = self.trainable(config)
        self._call("on_trial_start", trial)
        return trial

    def _step(self, trial: Trial) -> bool:
        """Train an epoch; return whether the trial has ended."""
        try:
            self._kill(trial)
            result = {"done": False, **trial.trainable.step(), "trial_id": trial.trial_id}
        except Exception as error:
            return self._failed(trial, error)
        self.cluster.results += 1
        stop = result["done"] or self.asks.scheduler.on_trial_result(None, trial, result) == TrialScheduler.STOP
        stopped, result["done"] = stop and not result["done"], bool(stop)
        if not stop:
            self.asks.search_alg.on_trial_result(trial.trial_id, result)
        trial.last_result = result
        self._call("on_trial_result", trial, result=result)
        if result.get(SHOULD_CHECKPOINT):
            self._save(trial)
        if stop:
            self.asks.scheduler.on_trial_complete(None, trial, result)
            self.asks.search_alg.on_trial_complete(trial.trial_id, result)
            self._call("on_trial_complete", trial)
            trial.trainable.cleanup()
            self.cluster.ended.append((trial.config["number"], result["epoch"] + 1, stopped))
        return bool(stop)

    def _kill(self, trial: Trial) -> None:
        epochs = self.cluster.killed.get(trial.config["number"], [])
        epoch = trial.last_result.get("epoch", -1) + 1
        if epoch in epochs:
            epochs.remove(epoch)
            raise RayActorError("an id", "The actor is dead because its worker process has died.")

    def _failed(self, trial: Trial, error: Exception) -> bool:
        trial.error = error
        if trial.failures < self.keeps.failure_config.max_failures:
            trial.failures += 1
            self._call("on_trial_recover", trial)
            trial.trainable = self.trainable(trial.config)
            return False
        self._call("on_trial_error", trial)
        self.asks.scheduler.on_trial_error(None, trial)
        self.asks.search_alg.on_trial_complete(trial.trial_id, error=True)
        return True

    def _save(self, trial: Trial) -> None:
        folder = Path(self.keeps.storage_path) / self.keeps.name / self.asks.trial_dirname_creator(trial)
        path = folder / "checkpoint_000000"
        path.mkdir(parents=True)
        trial.trainable.save_checkpoint(str(path))
        trial.checkpoint = tune.Checkpoint(str(path))

    def _call(self, name: str, trial: Trial, **facts: Any) -> None:
        for callback in self.keeps.callbacks:
            getattr(callback, name)(0, list(self.results), trial, **facts)


def _with_parameters(trainable: Any, **parameters: Any) -> Any:
    class Bound(trainable):
        shipped_by_driver = parameters

        def setup(self, config: dict[str, Any], **ignored: Any) -> None:
            super().setup(config, **parameters)

    return Bound


def _prepare(experiments: Mapping[str, Experiment], resources: Mapping[str, float], listener: Any) -> dict[str, Any]:
    found = {}
    for key, experiment in experiments.items():
        teacher = obtain(experiment, TeacherCache(), progress=lambda record: None)
        assert teacher is not None and teacher.path is not None
        found[key] = teacher, teacher.path.read_bytes()
    return found


class AloneTeam:
    """Stands for the workers of a trial: worker 0 trains alone."""

    def __init__(self, shipped: Any) -> None:
        self.size = shipped.workers

    def gather(self, config: object) -> None:
        """Form no group."""

    def take_up(self, sessions: object) -> None:
        """Tell nobody."""

    def training(self, trainers: object) -> Any:
        return nullcontext()

    def end(self) -> None:
        """End nobody."""


@contextmanager
def _session(path: Path) -> Iterator[None]:
    yield


def installed(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """Put the stand-in in the place of Ray for one test."""
    cluster = Cluster()
    names = (
        "TuneConfig",
        "RunConfig",
        "FailureConfig",
        "CheckpointConfig",
        "ResultGrid",
        "experiment",
        "PlacementGroupFactory",
    )
    stand_in = SimpleNamespace(
        **{name: getattr(tune, name) for name in names},
        Tuner=lambda trainable, tune_config, run_config: Tuner(cluster, trainable, tune_config, run_config),
        with_parameters=_with_parameters,
        with_resources=lambda trainable, resources: type("Sized", (trainable,), {"resources": resources}),
    )
    monkeypatch.setattr(tuning, "tune", stand_in)
    for module in (run, tuning):
        monkeypatch.setattr(
            module, "needed", lambda sweep: {"cpu": sweep.resources.cpu, "gpu": sweep.resources.gpu or 0.0}
        )
    for module in (tuning, growing):
        monkeypatch.setattr(module, "capacity", lambda wanted, workers=1: 2)
    monkeypatch.setattr(trainable, "Team", AloneTeam)
    monkeypatch.setattr(run, "REPORT_SECONDS", 0.0)  # an epoch, a result
    monkeypatch.setattr(run, "session", _session)
    monkeypatch.setattr(run, "named_cluster", lambda: None)
    monkeypatch.setattr(run, "refuse_here", lambda sweep: None)
    monkeypatch.setattr(run, "refuse_unfit", lambda sweep, listener: None)
    monkeypatch.setattr(run, "prepare", _prepare)
    return cluster
