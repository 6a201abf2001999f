"""The driver's pen: what trials report becomes histories, rows and students, and news for whoever watches.

Only the driver writes them, so that a worker that was cut off and goes on by itself overwrites nothing; an epoch
that was trained twice is written twice and counted once.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ray import tune

from tskd_tune.errors import RunError
from tskd_tune.records.news import Listener, News, row_news
from tskd_tune.records.results import Row, RunFolder
from tskd_tune.trial import STUDENT, TrialConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Live:
    folder: RunFolder
    listener: Listener


class Recorder(tune.Callback):
    """Writes what trials report into the run's folder.

    Ray Tune pickles its callbacks, so this one holds nothing: `recording` says where to write.
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

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Append the epoch to the trial's history."""
        live = self._here()
        given = TrialConfig(**trial.config)
        live.folder.append_history(given.run, result["records"])
        for record in result["records"]:
            seed, epoch, epochs = record["seed"], record["epoch"], result["epochs"]
            live.listener(News("epoch", given.arm, given.run, seed, epoch, epochs, metrics=record))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Write the rows of a trial that is over, and keep its students."""
        live = self._here()
        for plain in trial.last_result.get("rows", []):
            row = Row.model_validate(plain)
            if row.status == "stopped" and row.reason is None:
                row = row.model_copy(update={"reason": f"the scheduler stopped it after epoch {row.epochs - 1}"})
            self._keep_student(trial, row)
            live.folder.add_row(row)
            live.listener(row_news(row))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Tell that a trial broke for good; its history stays, and `resume` tries it again."""
        given = TrialConfig(**trial.config)
        self._here().listener(News("failed", given.arm, given.run, reason=_reason(trial)))

    def _keep_student(self, trial: Any, row: Row) -> None:
        if row.status != "done" or trial.checkpoint is None:
            return
        kept = self._here().folder.student_path(row.run, row.seed)
        with trial.checkpoint.as_directory() as folder:
            source = Path(folder) / STUDENT.format(seed=row.seed)
            if source.exists():
                _copy(source, kept)

    def _here(self) -> _Live:
        if self._live is None:
            raise RunError("a trial reported while no run is being recorded")
        return self._live


def _copy(source: Path, target: Path) -> None:
    part = target.with_suffix(".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, part)
        part.replace(target)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise RunError(f"{target}: the student cannot be kept ({error.strerror}); free space and resume") from error


def _reason(trial: Any) -> str:
    """Return the last line of what broke a trial, which names the error."""
    error = trial.get_pickled_error() if hasattr(trial, "get_pickled_error") else None
    lines = [line for line in str(error or "a worker was lost").strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else "unknown"
