"""Where a process that trains keeps its checkpoints and students: in a folder, and if asked on an object storage.

On an object storage a checkpoint is an object whose name has the number of its epochs, and it is never replaced. A
training is exact, so two checkpoints of one training with as many epochs are equal. So a process that was cut off and
comes back cannot replace a newer checkpoint. The last two are kept until the training ends.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Final, TypeVar

from tskd_tune.contracts import Saved
from tskd_tune.files import disk_error, write_whole
from tskd_tune.records.runs.layout import TRAININGS
from tskd_tune.storage.copies import Copy, RunAt
from tskd_tune.storage.objects import Objects
from tskd_tune.storage.patience import Patience
from tskd_tune.training import checkpoint
from tskd_tune.training.checkpoint import Saver, progress_in

CHECKPOINT: Final = "checkpoint.pt"
STUDENT: Final = "student.pth"
T = TypeVar("T")
KEPT: Final = 2
_NUMBERED: Final = re.compile(r"/checkpoint-(\d+)(?:-(\d+))?\.pt$")

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Candidate:
    """A checkpoint from which a training may go on: its place in messages, and how it is read."""

    place: str
    load: Callable[[], Saved]


class Workplace:
    """The files of a run for a process that trains.

    Attributes:
        folder: the run's folder, or the folder of this machine that stands for it.
    """

    def __init__(self, folder: Path, objects: Objects | None = None) -> None:
        """Keep files in ``folder``, and on an object storage as ``objects``."""
        self.folder = folder
        self._objects = objects
        self._trainings: dict[Path, TrainingFiles] = {}
        self._sent: dict[Path, tuple[int, int]] = {}
        self._stored: set[str] = set()

    @classmethod
    def of(cls, run: Path | RunAt) -> Workplace:
        """Return the workplace of a run in this process.

        Raises:
            InputError: no package of this machine reaches the storage.
            RunError: the folder of this machine cannot be made.
        """
        return cls(run) if isinstance(run, Path) else _of(run)

    def training(self, identity: str, seed: int) -> TrainingFiles:
        """Return the files of a training."""
        return self.files(Path(TRAININGS, f"{identity}-seed{seed}"))

    def files(self, folder: Path) -> TrainingFiles:
        """Return the files of the training in a folder of the run, given by its relative path."""
        if folder not in self._trainings:
            self._trainings[folder] = TrainingFiles(self.folder / folder, folder.as_posix(), self._objects)
        return self._trainings[folder]

    def put(self, name: str, content: bytes) -> bool:
        """Write an object on the object storage; False if the run is in a folder.

        Raises:
            StorageError: the storage refuses or fails for long.
        """
        if self._objects is None:
            return False
        Patience(LOG.warning).repeat(partial(self._objects.write, name, content))
        return True

    def lacks(self, name: str) -> bool:
        """Tell whether the run has no file of this name, in its folder or on its object storage.

        Raises:
            StorageError: the storage refuses or fails for long.
        """
        if self._objects is None:
            return not (self.folder / name).exists()
        if name not in self._stored:
            self._stored |= set(Patience(LOG.warning).repeat(partial(self._objects.names, name.partition("/")[0])))
        return name not in self._stored

    def keep(self, name: str, content: bytes) -> None:
        """Write a file of the run, in its folder or to its object storage.

        Raises:
            RunError: the disk is full, or the storage refuses or fails for long.
        """
        if not self.put(name, content):
            write_in_folder(self.folder / name, content)
        self._stored.add(name)

    def upload_wandb(self, run: str) -> None:
        """Bring the files of a W&B run with this id to the object storage, if there is one.

        Raises:
            StorageError: the storage refuses or fails for long.
        """
        if self._objects is None:
            return
        for path in sorted((self.folder / "wandb").glob(f"*run-*-{run}*/**/*")):
            if not path.is_file():
                continue
            found = path.stat()
            version = found.st_size, found.st_mtime_ns
            if self._sent.get(path) != version:
                name = str(path.relative_to(self.folder))
                Patience(LOG.warning).repeat(partial(self._objects.write, name, path))
                self._sent[path] = version


@cache
def _of(run: RunAt) -> Workplace:
    return Workplace(Copy.of(run).run, Objects(run.address))


class TrainingFiles:
    """The checkpoints and the student of one training."""

    def __init__(self, folder: Path, name: str, objects: Objects | None) -> None:
        """Keep them in ``folder``, and as objects whose names begin with ``name``."""
        self.folder = folder
        self._name = name
        self._objects = objects
        self._uploaded: list[str] = []

    def saver(self, seconds: float) -> Saver:
        """Return what writes the checkpoints."""
        return Saver(self.folder / CHECKPOINT, seconds, written=None if self._objects is None else self._upload)

    def candidates(self) -> Iterator[Candidate]:
        """Yield the checkpoints, the newest first.

        Raises:
            StorageError: the storage refuses or fails for long.
        """
        here = [
            Candidate(str(path), partial(checkpoint.load, path))
            for path in checkpoint.whole_files(self.folder / CHECKPOINT)
        ]
        if self._objects is None:
            yield from here
            return
        left = [(progress, one) for one in here if (progress := _progress(one)) is not None]
        for progress, name in self._stored():
            yield from (one for known, one in left if known >= progress)
            left = [(known, one) for known, one in left if known < progress]
            yield Candidate(self._objects.place(name), partial(self._loaded, name))
        yield from (one for _, one in left)

    def keep_student(self) -> None:
        """Bring the student, which is in the folder, to the object storage, and end the training there.

        Raises:
            StorageError: the storage refuses or fails for long.
        """
        if self._objects is not None and (self.folder / STUDENT).exists():
            self._patiently(partial(self._objects.write, f"{self._name}/{STUDENT}", self.folder / STUDENT))

    def put(self, name: str, content: bytes) -> None:
        """Write another file of the training, in its folder or to the object storage.

        Raises:
            RunError: the disk is full, or the storage refuses or fails for long.
        """
        if self._objects is None:
            write_in_folder(self.folder / name, content)
        else:
            self._patiently(partial(self._objects.write, f"{self._name}/{name}", content))

    def close(self) -> None:
        """Remove what is no longer needed of a training that has ended and is on the object storage.

        Raises:
            StorageError: the storage refuses or fails for long.
        """
        if self._objects is None:
            return
        self._prune(1)
        for name in (CHECKPOINT, STUDENT):
            (self.folder / name).unlink(missing_ok=True)

    def _upload(self, path: Path, state: Saved) -> None:
        """Bring a checkpoint to the object storage; the one before the last is then removed."""
        assert self._objects is not None
        epochs, steps = progress_in(state)
        within = f"-{steps:08d}" if steps else ""
        name = f"{self._name}/checkpoint-{epochs:06d}{within}.pt"
        self._patiently(partial(self._objects.write, name, path))
        if name not in self._uploaded:
            self._uploaded.append(name)
        self._prune(KEPT)

    def _prune(self, kept: int) -> None:
        """Remove the oldest checkpoints that this process knows; those that are further than its own stay."""
        while len(self._uploaded) > kept:
            assert self._objects is not None
            self._patiently(partial(self._objects.delete, self._uploaded[0]))
            self._uploaded.pop(0)

    def _stored(self) -> list[tuple[tuple[int, int], str]]:
        """Return the checkpoints on the object storage with their epochs and steps, the newest first."""
        assert self._objects is not None
        names = self._patiently(partial(self._objects.names, self._name))
        found = sorted(
            ((int(match[1]), int(match[2] or 0)), name) for name in names if (match := _NUMBERED.search(name))
        )
        self._uploaded = [name for _, name in found]
        return found[::-1]

    def _loaded(self, name: str) -> Saved:
        assert self._objects is not None
        path = self.folder / CHECKPOINT
        self._patiently(partial(self._objects.fetch, name, path))
        return checkpoint.load(path)

    def _patiently(self, act: Callable[[], T]) -> T:
        return Patience(LOG.warning).repeat(act)


def write_in_folder(path: Path, content: bytes) -> None:
    """Write a file and, if needed, its folder; raises a `RunError` if the disk refuses."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error("written", path, error) from error
    write_whole(path, content)


def _progress(candidate: Candidate) -> tuple[int, int] | None:
    try:
        return progress_in(candidate.load())
    except Exception:  # a damaged file may raise any exception; it is not needed where the storage has the checkpoint
        return None
