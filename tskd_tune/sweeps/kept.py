"""The files that a trial writes into the folder of each of its trainings: checkpoints, and at the end the student.

A training's folder is named by its identity and seed. A checkpoint holds everything that a resume needs, so a trial
goes on in any process that reads the folder, whichever of Ray Tune's files are left.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from tskd_tune.errors import RunError
from tskd_tune.records.breakage import reason_of
from tskd_tune.records.layout import TRAININGS, TRIALS
from tskd_tune.records.session import Session
from tskd_tune.training import checkpoint
from tskd_tune.training.checkpoint import Saver

CHECKPOINT: Final = "checkpoint.pt"
STUDENT: Final = "student.pth"

LOG = logging.getLogger(__name__)


def folder_of(run: Path, identity: str, seed: int) -> Path:
    """Return the folder of a training in the folder of a run."""
    return run / TRAININGS / f"{identity}-seed{seed}"


class Kept:
    """The files of one training."""

    def __init__(self, run: Path, session: Session) -> None:
        """Make the folder of a session's training in the folder of a run, which must exist."""
        self.folder = folder_of(run, session.identity, session.experiment.seed)
        if run.is_dir():  # otherwise the first checkpoint says that the run's folder is gone
            self.folder.mkdir(parents=True, exist_ok=True)
        self._saver = Saver(self.folder / CHECKPOINT, session.experiment.training.checkpoint.seconds)

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

    def close(self) -> None:
        """Wait for the last checkpoint of a trial that was stopped, which no training goes on from."""
        try:
            self._saver.wait()
        except RunError as error:
            LOG.warning("%s", error)


def taken_up(make: Callable[[], Session], run: Path) -> tuple[Session, str]:
    """Make a session that goes on from the newest whole checkpoint of an earlier process, if there is one.

    Args:
        make: makes the session anew; a damaged checkpoint may have changed a session.
        run: the folder of the run.

    Returns:
        The session, and a sentence about damaged checkpoints; an empty text if there were none.
    """
    session, damaged = make(), list[str]()
    for path in _checkpoints(run, session):
        try:
            session.load_state_dict(checkpoint.load(path))
            break
        except Exception as error:  # a damaged file may raise any exception
            damaged.append(f"{path} is damaged ({reason_of(error)})")
            session = make()
    epochs = len(session.trainer.history)
    on = f"the training goes on after {epochs} epochs" if epochs else "the training starts anew"
    return session, f"{'; '.join(damaged)}; {on}" if damaged else ""


def _checkpoints(run: Path, session: Session) -> Iterator[Path]:
    """Yield the checkpoints of a training, the newest first; earlier versions kept them in the folder of the trial."""
    seed = session.experiment.seed
    yield from checkpoint.whole_files(folder_of(run, session.identity, seed) / CHECKPOINT)
    for folder in sorted((run / TRIALS / session.trial.run).glob("checkpoint_*"), reverse=True):
        names = (folder / f"state-{session.identity}-seed{seed}.pt", folder / f"state-seed{seed}.pt")
        yield from (name for name in names if name.exists())
