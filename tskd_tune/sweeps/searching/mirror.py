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
    """The trained trials of a study in a journal file; if writing fails, it logs one warning and writes no more."""

    def __init__(self, path: Path, names: list[str]) -> None:
        """Write to ``path`` a study whose objectives have these names."""
        self._path, self._names = path, names
        self._copy: Study | None = None
        self._given_up = False

    def open(self, directions: list[StudyDirection], trials: Iterable[FrozenTrial]) -> None:
        """Write the file if it is not open yet: a dashboard that is opened early would create an empty file."""
        if self._copy is None:
            self.write(directions, trials)

    def write(self, directions: list[StudyDirection], trials: Iterable[FrozenTrial]) -> None:
        """Write the whole file again; all ``trials`` must be finished."""
        self._attempt(lambda: self._write(directions, trials))

    def add(self, trial: FrozenTrial, directions: list[StudyDirection], trials: Iterable[FrozenTrial]) -> None:
        """Append a trial that has just finished; if the file is not open, write the whole file."""
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
        # A driver that was killed while writing leaves a lock file, and Optuna would wait for this lock.
        self._path.with_name(f"{self._path.name}.lock").unlink(missing_ok=True)
        copy = optuna.create_study(storage=_journal(part), study_name=STUDY, directions=directions)
        with catch_warnings():
            # Optuna warns that names of objectives are experimental; a user does not need this warning.
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
        """Leave the open file out; the process that loads the pickle writes the file again."""
        return {**self.__dict__, "_copy": None}


def _journal(path: Path) -> JournalStorage:
    return JournalStorage(JournalFileBackend(str(path)))
