"""Writes the results of trials into histories, rows and files of students, and reports them as events.

Only the driver writes these files, so a worker that was cut off but still trains overwrites nothing. An epoch that was
trained twice is written twice and counted once. A training that breaks for good has a row too: either the trial
reported the exception of a component, or Ray reported that the worker process died.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ray import cloudpickle, tune
from ray.exceptions import NodeDiedError, OutOfMemoryError, RayActorError, RayError, WorkerCrashedError
from ray.tune.result import SHOULD_CHECKPOINT

from tskd_tune.errors import RunError
from tskd_tune.files import is_full
from tskd_tune.plain import Document
from tskd_tune.records.entries.events import Event, Listener, row_event
from tskd_tune.records.entries.row import Row
from tskd_tune.records.entries.state import Begun
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.records.sessions.breakage import broken_row, of_seed, reason_of, shortened
from tskd_tune.records.sessions.workplace import STUDENT
from tskd_tune.redaction import redacted
from tskd_tune.sweeps.limits import Limits
from tskd_tune.sweeps.machines.lost_nodes import says_lost_node
from tskd_tune.sweeps.messages.results import TrialResult
from tskd_tune.sweeps.messages.trial_config import TrialConfig
from tskd_tune.sweeps.messages.trial_errors import BrokenTrialError
from tskd_tune.sweeps.trials.bundles import results_of
from tskd_tune.sweeps.trials.kept import folder_of, forget_checkpoints, stopped_name
from tskd_tune.sweeps.trials.member import broken_reason
from tskd_tune.sweeps.trials.trainable import STOPPED_ROWS
from tskd_tune.training.record import Record

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Live:
    folder: RunFolder
    listener: Listener
    # Trial of a bundle -> whether it broke, for the trials whose rows were written.
    ended: dict[str, bool] = field(default_factory=dict)


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
        """Write what the trial trains, or each trial of the bundle, before any of its results."""
        members = TrialConfig(**trial.config).members()
        for given in members:
            self._here().folder.begin(_begun(given, members[0].run if len(members) > 1 else ""))

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: Document, **info: object
    ) -> None:
        """Append the epochs to the trial's history; ask a trial that the scheduler stops for its rows.

        A trial of a bundle that has ended gets its rows at once, because the others go on.
        """
        whole = TrialConfig(**trial.config)
        for given, found in results_of(whole, result):
            self._write_epoch(given, found)
            if whole.others and found.done:
                self._end_in_bundle(given, found)
            elif found.done and not found.rows:
                result[SHOULD_CHECKPOINT] = True  # Tune then calls `SweepTrial.save_checkpoint` before completion
        if whole.others and result.get("done") and self._open_of(whole):
            result[SHOULD_CHECKPOINT] = True

    def _write_epoch(self, given: TrialConfig, found: TrialResult) -> None:
        live = self._here()
        for sentence in found.notes:
            live.listener(Event("note", given.arm, given.run, reason=sentence))
        records = found.records
        if len(records) > len(given.seeds) and records[0].epoch == 0:  # perhaps of a trial that was restored
            records = self._missing(given, found)
        if records:
            live.folder.append_history(given.run, [record.plain() for record in records])
        for record in records:
            seed, epoch, metrics = record.seed, record.epoch, record.plain()
            live.listener(Event("epoch", given.arm, given.run, seed, epoch, found.epochs, metrics=metrics))

    def _missing(self, given: TrialConfig, found: TrialResult) -> list[Record]:
        """Return the records of a restored trial that are not in its history, such as after a loss of power."""
        known = {(line.seed, line.epoch) for line in self._here().folder.history(given.run)}
        return [record for record in found.records if (record.seed, record.epoch) not in known]

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: object) -> None:
        """Write the rows of a trial that has ended, and keep its students; a bundle's ended trials have theirs."""
        whole, result = TrialConfig(**trial.config), TrialResult.read(trial.last_result)
        if not trial.last_result.keys() & {"epoch", "rows"} or (whole.others and not self._open_of(whole)):
            return  # the sweep ended before the trial began, or all of the bundle have their rows
        rows = [] if whole.others else result.trainings()
        rows = [row for row in rows or self._stopped_rows(trial) if row.run not in self._here().ended]
        rows = list(map(_with_reason, rows))
        for row in rows:
            self._keep_student(row)
            self._add(row, result.error)
        self._forget_checkpoints(rows)
        _end_where_full(result.error)

    def _open_of(self, whole: TrialConfig) -> list[TrialConfig]:
        """Return the trials of a bundle whose rows are not written."""
        return [given for given in whole.members() if given.run not in self._here().ended]

    def _end_in_bundle(self, given: TrialConfig, found: TrialResult) -> None:
        """Write the rows of a trial of a bundle, once: a bundle that is tried again reports its ended trials again."""
        ended = self._here().ended
        if ended.get(given.run) == found.broke:
            return
        rows = found.trainings()
        for row in rows:
            self._keep_student(row)
            self._add(row, found.error)
        self._forget_checkpoints(rows)
        ended[given.run] = found.broke
        _end_where_full(found.error)

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: object) -> None:
        """End the sweep if the disk is full: another try would fail too."""
        if is_full(RunError(_death(trial).text)):
            self.on_trial_error(iteration, trials, trial)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: object) -> None:
        """Write a row for every seed of a trial that broke for good; `resume` trains these seeds again."""
        whole, death, ended = TrialConfig(**trial.config), _death(trial), self._here().ended
        for given in whole.members():
            for seed in given.seeds if given.run not in ended else []:
                reason = death.reason
                if death.run not in (None, given.run):
                    reason = f"{death.run}, in the same process, broke: {reason}"
                elif death.seed is not None:
                    reason = broken_reason(seed, death.seed, reason)
                self._add(self._row_of_history(given, seed, reason), death.text)
        _end_where_full(death.text)

    def _row_of_history(self, given: TrialConfig, seed: int, reason: str) -> Row:
        of = of_seed(self._here().folder.history(given.run), seed)
        named = {"run": given.run, "arm": given.arm, "identity": given.identity}
        return broken_row(given.experiment, seed, of, reason, point=given.point, **named)

    def _stopped_rows(self, trial: Trial) -> list[Row]:
        """Return the rows of a trial that the scheduler has stopped, which it wrote when it was asked to."""
        remote, first = self._here().folder.remote, TrialConfig(**trial.config).run
        if remote is not None and (content := remote.take(stopped_name(first))) is not None:
            return [Row.model_validate(row) for row in json.loads(content)]
        if trial.checkpoint is not None and remote is None:
            folder = Path(trial.checkpoint.path)
            with suppress(OSError, ValueError):
                rows = json.loads((folder / STOPPED_ROWS).read_text(encoding="utf-8"))
                shutil.rmtree(folder, ignore_errors=True)
                return [Row.model_validate(row) for row in rows]
        facts = {"status": "stopped", "broke": False, "reason": None}
        members = TrialConfig(**trial.config).members()
        return [self._row_of_history(one, seed, "").model_copy(update=facts) for one in members for seed in one.seeds]

    def _add(self, row: Row, error: str) -> None:
        live = self._here()
        if row.broke:
            row = live.folder.keep_error(row, error)
        else:
            live.folder.forget_error(row.run, row.seed)
        live.folder.add_row(row)
        live.listener(row_event(row))

    def _forget_checkpoints(self, rows: Iterable[Row]) -> None:
        """Remove the checkpoints of a trial that has ended, after all of its rows: a resume needs none of them."""
        for row in rows:
            if row.ended and row.identity:
                forget_checkpoints(self._here().folder, row)

    def _keep_student(self, row: Row) -> None:
        """Bring the student to the place where the run keeps it; trials of format 1 keep it in their own folder."""
        folder = self._here().folder
        source = folder_of(folder.path, row.identity, row.seed) / STUDENT
        if row.status == "done" and source != folder.student_path(row.run, row.seed) and source.exists():
            folder.keep_student(row.run, row.seed, source)

    def _here(self) -> _Live:
        if self._live is None:
            raise RunError("a trial reported while no run is being recorded")
        return self._live


def _with_reason(row: Row) -> Row:
    """Return the row of a stopped training with the reason: the scheduler, or the end of the sweep."""
    if row.status != "stopped" or row.reason is not None:
        return row
    limits = Limits.current
    ended = None if limits is None else limits.reason_of(row.run)
    if limits is None or ended is None:
        return row.model_copy(update={"reason": f"the scheduler stopped it after epoch {row.epochs - 1}"})
    return row.model_copy(update={"reason": ended, "cut": not limits.at_target})


def _end_where_full(error: str) -> None:
    """End the sweep if a full disk broke a trial: all other trials would break too.

    Raises:
        RunError: the disk is full.
    """
    if is_full(RunError(error)):
        raise RunError(os.strerror(errno.ENOSPC))


def _begun(given: TrialConfig, bundle: str) -> Begun:
    epochs = (given.experiment.get("training") or {}).get("epochs")
    return Begun(
        run=given.run,
        identity=given.identity,
        arm=given.arm,
        point=given.point,
        seeds=given.seeds,
        epochs=epochs,
        experiment=given.experiment,
        bundle=bundle,
    )


@dataclass(frozen=True)
class _Death:
    """What ended a trial.

    Attributes:
        seed: the seed that broke; None if unknown.
        reason: one line.
        text: the whole error.
        run: the trial of the seed, in a bundle; None if unknown.
    """

    seed: int | None
    reason: str
    text: str
    run: str | None = None


def _death(trial: Trial) -> _Death:
    """Find out what ended a trial: an error of a training, or the loss of its process, in Ray's words.

    Tune has just written the error into a folder of this process. Tune copies that folder into the run's storage later,
    from where `Trial.get_pickled_error` reads.
    """
    pickled, told = trial.pickled_error_file, trial.error_file
    error = cloudpickle.loads(Path(pickled).read_bytes()) if pickled else None
    cause = getattr(error, "cause", None)
    text = redacted(str(error or (Path(told).read_text(encoding="utf-8", errors="replace") if told else "")))
    if isinstance(cause, BrokenTrialError):
        return _Death(cause.seed, cause.reason, cause.text, cause.run)
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
    if says_lost_node(text):
        return "the machine of the worker process was lost"
    return (
        "the worker process died without a message: it was killed (signal 9, often because the machine ran out of"
        " memory), or the code ended it"
    )
