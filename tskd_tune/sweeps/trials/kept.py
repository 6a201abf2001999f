"""The files that a trial writes into the folder of each of its trainings: checkpoints, and at the end the student.

A training's folder is named by its identity and seed. A checkpoint holds everything that a resume needs, so a trial
goes on in any process that reads the folder, or the object storage, whichever of Ray Tune's files are left. The driver
removes the checkpoints of a training as soon as its row is kept.
"""

from __future__ import annotations

import json
import logging
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from tskd_tune.contracts import Saved
from tskd_tune.errors import OtherDataError, RunError
from tskd_tune.plain import Document
from tskd_tune.records.entries.row import Row
from tskd_tune.records.kept.kept_examples import keep_examples
from tskd_tune.records.kept.kept_hits import keep_hits
from tskd_tune.records.runs.layout import TRAININGS, TRIALS
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.records.sessions.breakage import reason_of
from tskd_tune.records.sessions.session import Session
from tskd_tune.records.sessions.workplace import CHECKPOINT, STUDENT, Candidate, Workplace
from tskd_tune.storage.copies import RunAt
from tskd_tune.storage.failures import StorageError
from tskd_tune.training import checkpoint
from tskd_tune.training.saving import SavesWithin
from tskd_tune.words import count

LOG = logging.getLogger(__name__)


def folder_of(run: Path, identity: str, seed: int) -> Path:
    """Return the folder of a training in the folder of a run."""
    return run / TRAININGS / f"{identity}-seed{seed}"


def forget_checkpoints(run: RunFolder, row: Row) -> None:
    """Remove the checkpoints of a training whose row is kept: no resume trains it again.

    Raises:
        RunError: a file cannot be removed.
    """
    folder = f"{TRAININGS}/{row.identity}-seed{row.seed}"
    if run.remote is not None:
        run.remote.forget(folder)
        return
    for name in (CHECKPOINT, checkpoint.older(Path(CHECKPOINT)).name):
        run.store.delete(f"{folder}/{name}")


def keep_stopped(run: Path | RunAt | None, trial: str, rows: Sequence[Document]) -> bool:
    """Write the rows of a trial that the scheduler stops to the run's object storage; False without such storage.

    Raises:
        StorageError: the storage refuses or fails for long.
    """
    if not isinstance(run, RunAt):
        return False
    return Workplace.of(run).put(stopped_name(trial), json.dumps(list(rows)).encode())


def stopped_name(trial: str) -> str:
    """Return the name of the object with the rows of a stopped trial."""
    return f"{TRIALS}/{trial}/stopped.json"


class Kept:
    """The files of one training."""

    def __init__(self, place: Workplace, session: Session) -> None:
        """Make the folder of a session's training in the folder of a run, which must exist."""
        self._place = place
        self._files = place.training(session.identity, session.experiment.seed)
        self.folder = self._files.folder
        if place.folder.is_dir():  # otherwise the first checkpoint says that the run's folder is gone
            self.folder.mkdir(parents=True, exist_ok=True)
        self._saver = self._files.saver(session.experiment.training.checkpoint.seconds)
        known = weakref.ref(session)  # so that the memory of a training is free as soon as its session is forgotten

        def state() -> Saved | None:
            session = known()
            return None if session is None else session.state_dict()

        session.trainer.observers.append(SavesWithin(self._saver, state))

    def offer(self, session: Session) -> None:
        """Write a checkpoint, beside the training, if it is time for one.

        Raises:
            RunError: the last checkpoint could not be written.
        """
        if self._saver.is_due:
            self._saver.save(session.state_dict())

    def finish(self, session: Session) -> None:
        """Write the last checkpoint of a training that has ended, and its student if the training was not cut short.

        Raises:
            RunError: a file could not be written.
        """
        self._saver.finish(session.state_dict())
        if session.finished and session.failure is None:
            session.write_student(self.folder / STUDENT)
            self._files.keep_student()
            if session.trainer.finished:
                keep_hits(session, self._files)
                keep_examples(session, self._place, self._files)
        self._files.close()

    def close(self) -> None:
        """Wait for the last checkpoint of a trial that was stopped, which no training goes on from."""
        try:
            self._saver.wait()
        except RunError as error:
            LOG.warning("%s", error)


def taken_up(make: Callable[[], Session], place: Workplace) -> tuple[Session, str]:
    """Make a session that goes on from the newest whole checkpoint of an earlier process, if there is one.

    Args:
        make: makes the session anew; a damaged checkpoint may have changed a session.
        place: where the run's files are.

    Returns:
        The session, and a sentence about damaged checkpoints; an empty text if there were none.

    Raises:
        StorageError: the run is on an object storage, which refuses or fails for long.
    """
    session, damaged = make(), list[str]()
    for candidate in _checkpoints(place, session):
        try:
            session.load_state_dict(candidate.load())
            break
        except StorageError:
            raise
        except Exception as error:  # a damaged file may raise any exception
            is_other = isinstance(error, OtherDataError)
            damaged.append(f"{candidate.place}{f': {error}' if is_other else f' is damaged ({reason_of(error)})'}")
            session = make()
    epochs = len(session.trainer.history)
    on = f"the training goes on after {count(epochs, 'epoch')}" if epochs else "the training starts anew"
    return session, f"{'; '.join(damaged)}; {on}" if damaged else ""


def _checkpoints(place: Workplace, session: Session) -> Iterator[Candidate]:
    """Yield the checkpoints of a training, the newest first; earlier versions kept them in the folder of the trial."""
    seed = session.experiment.seed
    yield from place.training(session.identity, seed).candidates()
    for folder in sorted((place.folder / TRIALS / session.trial.run).glob("checkpoint_*"), reverse=True):
        names = (folder / f"state-{session.identity}-seed{seed}.pt", folder / f"state-seed{seed}.pt")
        yield from (Candidate(str(name), partial(checkpoint.load, name)) for name in names if name.exists())
