"""The copy of a search's study in a journal file, for optuna-dashboard and for the report."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from warnings import catch_warnings, simplefilter

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial

from tskd_tune.plain import Document
from tskd_tune.reports.findings.importance import STUDY

LOG = logging.getLogger(__name__)


class Mirror:
    """The trained trials of a study in a journal file; a file that cannot be written is told of once and given up."""

    def __init__(self, path: Path, names: list[str]) -> None:
        """Write to ``path`` a study whose objectives have these names."""
        self._path, self._names = path, names
        self._copy: Study | None = None
        self._given_up = False

    def open(self, directions: list[StudyDirection], trials: Iterable[FrozenTrial]) -> None:
        """Write the file unless it is there: a dashboard that is opened early would make an empty one."""
        if self._copy is None:
            self.write(directions, trials)

    def write(self, directions: list[StudyDirection], trials: Iterable[FrozenTrial]) -> None:
        """Write the whole file anew; the trials are finished."""
        self._attempt(lambda: self._write(directions, trials))

    def add(self, trial: FrozenTrial, directions: list[StudyDirection], trials: Iterable[FrozenTrial]) -> None:
        """Append a trial that has just finished; a file that is not open is written anew."""
        if self._copy is None:
            self.write(directions, trials)
        else:
            self._attempt(lambda: self._append(trial))

    def _append(self, trial: FrozenTrial) -> None:
        assert self._copy is not None
        self._copy.add_trial(trial)

    def _write(self, directions: list[StudyDirection], trials: Iterable[FrozenTrial]) -> None:
        part = self._path.with_name(f".{self._path.name}.part")
        part.unlink(missing_ok=True)
        # A driver that was killed while writing leaves the lock behind, which Optuna waits for.
        self._path.with_name(f"{self._path.name}.lock").unlink(missing_ok=True)
        copy = optuna.create_study(storage=_journal(part), study_name=STUDY, directions=directions)
        with catch_warnings():
            # That names of objectives are new in Optuna is no news to a user.
            simplefilter("ignore", ExperimentalWarning)
            copy.set_metric_names(self._names)
        for trial in trials:
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

    def __getstate__(self) -> Document:
        """Leave the open file behind; it is written anew where this is read."""
        return {**self.__dict__, "_copy": None}


def _journal(path: Path) -> JournalStorage:
    return JournalStorage(JournalFileBackend(str(path)))
