"""Writes the results of trials into histories, rows and files of students, and reports them as events.

Only the driver writes these files, so a worker that was cut off but still trains overwrites nothing. An epoch that was
trained twice is written twice and counted once. A training that breaks for good has a row too: either the trial
reported the exception of a component, or Ray reported that the worker process died.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ray import tune
from ray.exceptions import NodeDiedError, OutOfMemoryError, RayActorError, RayError, WorkerCrashedError

from tskd_tune.errors import RunError
from tskd_tune.files import is_full
from tskd_tune.plain import Document
from tskd_tune.records.breakage import broken_row, of_seed, reason_of, shortened
from tskd_tune.records.events import Event, Listener, row_event
from tskd_tune.records.row import Row
from tskd_tune.records.run_folder import RunFolder
from tskd_tune.records.state import Begun
from tskd_tune.sweeps.results import TrialResult
from tskd_tune.sweeps.trainable import STUDENT, BrokenTrialError, broken_reason
from tskd_tune.sweeps.trial_config import TrialConfig

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Live:
    folder: RunFolder
    listener: Listener


class Recorder(tune.Callback):
    """Writes the results of trials into the run's folder.

    Ray Tune pickles its callbacks, so this callback holds no state. `recording` says where it writes.
    """

    _live: ClassVar[_Live | None] = None

    @classmethod
    @contextmanager
    def recording(cls, folder: RunFolder, listener: Listener) -> Iterator[None]:
        """Write into ``folder`` and tell ``listener`` until the end of the block."""
        cls._live = _Live(folder, listener)
        try:
            yield
        finally:
            cls._live = None

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: object) -> None:
        """Write what the trial trains, before any of its results."""
        self._here().folder.begin(_begun(TrialConfig(**trial.config)))

    def on_checkpoint(
        self, iteration: int, trials: list[Trial], trial: Trial, checkpoint: tune.Checkpoint, **info: object
    ) -> None:
        """Remove the checkpoints of an earlier process when a new one exists; Tune numbers checkpoints from 0 again."""
        newest = Path(checkpoint.path)
        for other in newest.parent.glob("checkpoint_*"):
            if other.name > newest.name:
                shutil.rmtree(other, ignore_errors=True)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: Document, **info: object
    ) -> None:
        """Append the epoch to the trial's history."""
        live = self._here()
        given, found = TrialConfig(**trial.config), TrialResult.read(result)
        for sentence in found.notes:
            live.listener(Event("note", given.arm, given.run, reason=sentence))
        if found.records:
            live.folder.append_history(given.run, [record.plain() for record in found.records])
        for record in found.records:
            seed, epoch, metrics = record.seed, record.epoch, record.plain()
            live.listener(Event("epoch", given.arm, given.run, seed, epoch, found.epochs, metrics=metrics))

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: object) -> None:
        """Write the rows of a trial that has ended, and keep its students."""
        result = TrialResult.read(trial.last_result)
        for row in result.trainings():
            if row.status == "stopped" and row.reason is None:
                reason = f"the scheduler stopped it after epoch {row.epochs - 1}"
                row = row.model_copy(update={"reason": reason})  # noqa: PLW2901
            self._keep_student(trial, row)
            self._add(row, result.error)
        _end_where_full(result.error)

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: object) -> None:
        """End the sweep if the disk is full: another try would fail too."""
        if is_full(RunError(_death(trial).text)):
            self.on_trial_error(iteration, trials, trial)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: object) -> None:
        """Write a row for every seed of a trial that broke for good; `resume` trains these seeds again."""
        given, death = TrialConfig(**trial.config), _death(trial)
        reported = {row.seed: row for row in TrialResult.read(trial.last_result or {}).trainings()}
        history = self._here().folder.history(given.run)
        for seed in given.seeds:
            reason = death.reason if death.seed is None else broken_reason(seed, death.seed, death.reason)
            if seed in reported:
                broke = {"status": "failed", "reason": reason, "broke": True}
                row = reported[seed].model_copy(update=broke)
            else:
                of = of_seed(history, seed)
                named = {"run": given.run, "arm": given.arm, "identity": given.identity}
                row = broken_row(given.experiment, seed, of, reason, point=given.point, **named)
            self._add(row, death.text)
        _end_where_full(death.text)

    def _add(self, row: Row, error: str) -> None:
        live = self._here()
        if row.broke:
            row = live.folder.keep_error(row, error)
        else:
            live.folder.forget_error(row.run, row.seed)
        live.folder.add_row(row)
        live.listener(row_event(row))

    def _keep_student(self, trial: Trial, row: Row) -> None:
        if row.status != "done" or trial.checkpoint is None:
            return
        with trial.checkpoint.as_directory() as folder:
            source = Path(folder) / STUDENT.format(seed=row.seed)
            if source.exists():
                self._here().folder.keep_student(row.run, row.seed, source)

    def _here(self) -> _Live:
        if self._live is None:
            raise RunError("a trial reported while no run is being recorded")
        return self._live


def _end_where_full(error: str) -> None:
    """End the sweep if a full disk broke a trial: all other trials would break too.

    Raises:
        RunError: the disk is full.
    """
    if is_full(RunError(error)):
        raise RunError(os.strerror(errno.ENOSPC))


def _begun(given: TrialConfig) -> Begun:
    epochs = (given.experiment.get("training") or {}).get("epochs")
    return Begun(
        run=given.run,
        identity=given.identity,
        arm=given.arm,
        point=given.point,
        seeds=given.seeds,
        epochs=epochs,
        experiment=given.experiment,
    )


@dataclass(frozen=True)
class _Death:
    """What ended a trial: the seed that broke (None if unknown), the reason in one line, and the whole error."""

    seed: int | None
    reason: str
    text: str


def _death(trial: Trial) -> _Death:
    """Find out what ended a trial: an error of a training, or the loss of its process, in Ray's words."""
    error = trial.get_pickled_error()
    cause = getattr(error, "cause", None)
    text = str(error or trial.get_error() or "")
    if isinstance(cause, BrokenTrialError):
        return _Death(cause.seed, cause.reason, cause.text)
    if isinstance(error, RayError):
        return _Death(None, reason_of_loss(error), text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return _Death(None, shortened(lines[-1]) if lines else "the worker process was lost", text)


def reason_of_loss(error: RayError) -> str:
    """Return in one line what ended a worker: an error of its code, or the loss of its process."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, BaseException):
        return reason_of(cause)
    if isinstance(error, RayActorError | OutOfMemoryError | WorkerCrashedError | NodeDiedError):
        return _loss(str(error))
    return reason_of(error)


def _loss(text: str) -> str:
    """Say how a worker process was lost, as far as Ray knows."""
    if "low on memory" in text:
        return "Ray ended the worker process because the machine ran out of memory; lower resources.concurrent"
    if "node" in text and "worker process has died" not in text:
        return "the machine of the worker process was lost"
    return (
        "the worker process died without a message: it was killed (signal 9, often because the machine ran out of"
        " memory), or the code ended it"
    )
