"""The cache of trained teachers: each teacher is trained once and kept under a digest of all that it depends on.

When several runs need the same teacher, one run trains the teacher and the others wait. An interrupted training of a
teacher goes on from its last checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import platformdirs
from filelock import FileLock, Timeout

from tskd_tune.errors import InputError, RunError
from tskd_tune.metrics import measured
from tskd_tune.networks.base import Network
from tskd_tune.networks.weights import write_state
from tskd_tune.paths import whole_path
from tskd_tune.training import checkpoint
from tskd_tune.training.checkpoint import Saver, waited_for, whole_files
from tskd_tune.training.observers import Observer, Training
from tskd_tune.training.record import Line, Record
from tskd_tune.training.replay import TRAJECTORY, State, snapshot
from tskd_tune.training.trainer import Trainer

CACHE_VARIABLE = "TSKD_TUNE_CACHE"
# Raise it when the same recipe would train another teacher, so that old files are not used.
TEACHER_VERSION = 1
SAVE_SECONDS = 30.0
# Called with None while another process trains the teacher and this process waits.
Progress = Callable[[Line | None], None]
Check = Callable[[Path], object]


@dataclass(frozen=True)
class TeacherFile:
    """A teacher that was trained or verified, and what its run's row says of it.

    Attributes:
        source: ``auto``, ``untrained``, or the path or the name of published weights that was given.
        path: its file; None for an untrained teacher, which has none.
        key: the digest of the recipe or of the file; None without one.
        metrics: the headline metric before the student is trained, by its name in rows: of the test set, or of the
            validation set where the run never reads the test set; empty where it was not measured.
        leak: why the teacher may have been trained on the validation images, in words; empty where it was not.
    """

    name: str
    source: str
    path: Path | None
    key: str | None
    parameters: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    leak: str = ""


def cache_folder() -> Path:
    """Return the folder of trained teachers: ``$TSKD_TUNE_CACHE/teachers``, or the user's cache folder."""
    given = os.environ.get(CACHE_VARIABLE)
    try:
        return whole_path(given or platformdirs.user_cache_dir("tskd-tune")) / "teachers"
    except ValueError as error:
        raise InputError(f"{CACHE_VARIABLE}: {error}") from error


def digest(recipe: Mapping[str, object]) -> str:
    """Return the key of a teacher: a digest of everything that the teacher depends on, given as plain data."""
    words = json.dumps({"version": TEACHER_VERSION, **recipe}, sort_keys=True)
    return hashlib.sha256(words.encode()).hexdigest()[:16]


class TeacherCache:
    """Trained teachers by key, in one folder, in the usual checkpoint layout."""

    def __init__(self, folder: Path | None = None) -> None:
        """Use ``folder``, by default the user's cache.

        Raises:
            InputError: the folder cannot be made or written.
        """
        self.folder = folder or cache_folder()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"{self.folder}: teachers cannot be kept there ({error.strerror});"
                f" permit writing or set {CACHE_VARIABLE} to another folder"
            ) from error

    def path(self, key: str) -> Path:
        """Return the path of the teacher with a key, whether the file exists or not."""
        return self.folder / f"{key}.pth"

    def usable(self, key: str, check: Check) -> bool:
        """Tell whether the file of a teacher exists and is intact; warn of a damaged file.

        Args:
            key: the digest of all that the teacher depends on.
            check: raises `InputError` for a file that cannot teach.
        """
        path = self.path(key)
        if not path.exists():
            return False
        try:
            check(path)
        except InputError as error:
            problem = str(error).removeprefix(f"teacher: {path}: ").partition("; ")[0]
            warnings.warn(f"{path}: cannot be used ({problem}); the teacher is trained again", stacklevel=2)
            return False
        return True

    def obtain(
        self,
        key: str,
        trainer: Callable[[], Trainer],
        progress: Progress,
        *,
        facts: Mapping[str, object],
        check: Check,
        snapshots: Collection[int] = (),
    ) -> Path:
        """Return the file of a teacher; train the teacher first if the file is missing or damaged.

        Other processes that need the teacher wait meanwhile.

        Args:
            key: the digest of all that the teacher depends on.
            trainer: makes the training of the teacher.
            progress: is told the history line of each epoch, and None while another process trains this teacher.
            facts: what the file says of the teacher.
            check: raises `InputError` for a file that cannot teach.
            snapshots: the epochs, from 0, at whose end a snapshot is kept for a replay.
        """
        path = self.path(key)
        if not self.usable(key, check):
            with _alone(self.folder / f"{key}.lock", progress):
                if not self.usable(key, check):
                    self._train(path, trainer, progress, facts, snapshots)
        return path

    def _train(
        self,
        path: Path,
        make: Callable[[], Trainer],
        progress: Progress,
        facts: Mapping[str, object],
        snapshots: Collection[int],
    ) -> None:
        halfway = path.with_suffix(".halfway")
        trainer, trajectory = _begun(make, halfway)
        with waited_for(Saver(halfway, SAVE_SECONDS)) as saver:
            trainer.observers.append(_Keeper(trainer, trajectory, snapshots, progress, saver))
            while not trainer.finished:
                trainer.epoch()
        past = {TRAJECTORY: trajectory} if snapshots else {}
        write_state(path, trainer.student, facts={**facts, **past, **_accuracy(trainer)})
        for file in whole_files(halfway):
            file.unlink(missing_ok=True)


class _Keeper(Observer):
    """Tells of each epoch of a teacher's training, keeps the snapshots for a replay, and saves the training halfway."""

    def __init__(
        self,
        trainer: Trainer,
        trajectory: list[State],
        snapshots: Collection[int],
        progress: Progress,
        saver: Saver,
    ) -> None:
        self._trainer = trainer
        self._trajectory = trajectory
        self._snapshots = snapshots
        self._progress = progress
        self._saver = saver

    def stepped(self, training: Training) -> None:
        """Write a checkpoint within the epoch, if it is due."""
        if self._saver.is_due_within:
            self._save()

    def recorded(self, training: Training, record: Record) -> None:
        """Keep what is wanted of an epoch."""
        if record.epoch in self._snapshots:
            self._trajectory.append(snapshot(training.student))
        self._progress(record.plain())
        if self._saver.is_due:
            self._save()

    def _save(self) -> None:
        self._saver.save({**self._trainer.state_dict(), TRAJECTORY: self._trajectory})


def _begun(make: Callable[[], Trainer], halfway: Path) -> tuple[Trainer, list[State]]:
    """Return a teacher's training, from its last checkpoint if there is one, and the snapshots taken so far."""
    trainer = make()
    for file in whole_files(halfway):
        try:
            state = checkpoint.load(file)
            trainer.load_state_dict(state)
            return trainer, state.get(TRAJECTORY, [])
        except (RunError, LookupError, RuntimeError, TypeError, ValueError) as error:
            problem = str(error).removeprefix(f"{file}: ").partition("; ")[0].partition("\n")[0]
            warnings.warn(
                f"{file}: {problem}; it is left out, and what it had of the teacher is trained again", stacklevel=2
            )
            trainer = make()
    return trainer, []


@contextmanager
def _alone(path: Path, progress: Progress) -> Iterator[None]:
    """Hold a lock until the end of the block; if another process holds the lock, say so and wait."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress(None)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _accuracy(trainer: Trainer) -> dict[str, object]:
    """Return what the last epoch measured, as a checkpoint of the field says it."""
    record, headline = trainer.history[-1], trainer.task.facts().headline
    return {
        "epoch": record.epoch,
        "accuracy": record.metrics.get(measured("test", headline)),
        "metrics": record.metrics,
    }


def parameter_count(network: Network) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in network.parameters())
