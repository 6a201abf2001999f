"""Checkpoints: a state is one dict of tensors and plain values.

A checkpoint is written to a temporary file, which is then renamed. It is read without running code from the file. While
a training goes on, `Saver` writes its checkpoints in a thread."""

from __future__ import annotations

import copy
import io
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tskd_tune import saved
from tskd_tune.contracts import Saved
from tskd_tune.errors import RunError
from tskd_tune.files import write_whole

# How long a thread may take to begin whose start was interrupted.
BEGIN_SECONDS = 2.0


def save(state: Saved, path: Path) -> None:
    """Write a state atomically: a reader finds the old file or the new one, never a part of a file.

    Raises:
        RunError: the disk is full, or the folder is gone or not writable.
    """
    content = io.BytesIO()
    torch.save(state, content)
    write_whole(path, content.getbuffer())


def load(path: Path) -> Saved:
    """Read a state onto the CPU.

    Raises:
        RunError: the file is missing, damaged or not a checkpoint.
    """
    try:
        state = saved.read(path)
    except FileNotFoundError as error:
        raise RunError(f"{path}: the checkpoint is missing; start the run again under another name") from error
    except OSError as error:
        raise RunError(f"{path}: the checkpoint cannot be read ({error.strerror or error}); check the disk") from error
    except saved.UnreadableError as error:
        raise RunError(
            f"{path}: is no readable checkpoint: it {error.problem}; remove the file and resume the run"
        ) from error
    if not isinstance(state, dict):
        raise RunError(f"{path}: not a checkpoint but a {type(state).__name__}; remove the file and resume the run")
    return state


def older(path: Path) -> Path:
    """Return the file that keeps the checkpoint before the last one of a `Saver`."""
    return path.with_name(f"{path.stem}-older{path.suffix}")


def whole_files(path: Path) -> list[Path]:
    """Return the files of a `Saver` that exist, the newest checkpoint first; a damaged file is among them."""
    return [file for file in (path, older(path)) if file.exists()]


def copied(state: Saved) -> Saved:
    """Return a copy of a state in the memory of the CPU, which training on does not change.

    Waits for the device, whose steps may still change the state.
    """
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # a training on the CPU must not wake the GPU
        torch.cuda.synchronize()
    twin: Saved = _copied(state)
    return twin


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        twin = copy.copy(value)  # which keeps the version numbers of a module's state
        twin.update({key: _copied(item) for key, item in value.items()})
        return twin
    return type(value)(map(_copied, value)) if isinstance(value, list | tuple) else value


def epochs_in(state: Saved) -> int:
    """Return after how many epochs the state of a training or of its session was taken."""
    return len(state.get("trainer", state).get("history", ()))


def progress_in(state: Saved) -> tuple[int, int]:
    """Return after how many epochs, and steps of the next one, the state of a training or of its session was taken."""
    epoch = state.get("trainer", state).get("epoch") or {"step": 0}
    return epochs_in(state), int(epoch["step"])


class Saver:
    """Writes the checkpoints of one training to one file while the training goes on.

    A state is copied at once, and a thread writes the copy: one thread at a time, so two writes never meet. An error of
    a write is raised by the next call. The checkpoint before the last one stays in a second file (see `older`) until
    the training ends, because a file may be damaged after it was written.

    Two processes may write the same file for a while: one that was cut off from its cluster, and one that goes on in
    its place. A checkpoint of the other process that has more epochs, or more steps of an epoch, is kept.
    """

    def __init__(
        self,
        path: Path,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
        *,
        written: Callable[[Path, Saved], None] | None = None,
    ) -> None:
        """Write to ``path`` when ``seconds`` have gone by since the last checkpoint; 0: whenever a state is offered.

        ``written`` is called in the thread with each checkpoint that was written: the file and the state.
        """
        self.path = path
        self._written = written
        self._mine = _mark(path)
        self._seconds = seconds
        self._clock = clock
        self._last = clock()
        self._thread: threading.Thread | None = None
        self._begun = threading.Event()
        self._error: Exception | None = None

    @property
    def is_due(self) -> bool:
        """Whether it is time for a checkpoint, and the last one is on disk.

        Raises:
            RunError: the last checkpoint could not be written.
        """
        writes = self._thread is not None and self._thread.is_alive()
        if not writes:
            self.wait()
        return self._clock() - self._last >= self._seconds and (not writes or self._seconds == 0)

    @property
    def is_due_within(self) -> bool:
        """Whether it is time for a checkpoint within an epoch; with 0 seconds they are written after epochs alone.

        Raises:
            RunError: the last checkpoint could not be written.
        """
        return self._seconds > 0 and self.is_due

    def save(self, state: Saved) -> None:
        """Copy a state and begin to write the copy, after the write before has ended.

        Raises:
            RunError: the checkpoint before could not be written.
        """
        self.wait()
        self._last = self._clock()
        # No daemon: Python waits for the thread where the process ends while it writes.
        copy_of_state = copied(state)
        self._begun.clear()
        self._thread = threading.Thread(target=self._write, args=(copy_of_state,), name=f"checkpoint {self.path}")
        self._thread.start()

    def wait(self) -> None:
        """Wait until nothing is being written.

        Raises:
            RunError: the last checkpoint could not be written.
        """
        # Ctrl-C may come within `start`, when the thread runs and cannot be joined yet, or will never run.
        if self._thread is not None and (self._thread.is_alive() or self._begun.wait(BEGIN_SECONDS)):
            self._thread.join()
        self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def finish(self, state: Saved) -> None:
        """Write the last checkpoint of a training, which no other one needs to stand beside.

        Raises:
            RunError: a checkpoint could not be written.
        """
        self.wait()
        save(state, self.path)
        if self._written is not None:
            self._written(self.path, state)
        older(self.path).unlink(missing_ok=True)

    def _is_behind(self, state: Saved) -> bool:
        """Tell whether another process has written a checkpoint that is further."""
        if _mark(self.path) == self._mine:
            return False
        try:
            return progress_in(load(self.path)) > progress_in(state)
        except RunError:  # it is damaged, or the other process replaces it now
            return False

    def _write(self, state: Saved) -> None:
        self._begun.set()
        try:
            if self._is_behind(state):
                return
            with suppress(FileNotFoundError):  # the first checkpoint
                self.path.replace(older(self.path))
            save(state, self.path)
            self._mine = _mark(self.path)
            if self._written is not None:
                self._written(self.path, state)
        except Exception as error:  # raised in the thread that trains
            self._error = error


def _mark(path: Path) -> tuple[int, int, int] | None:
    """Return what tells a file from one that replaces it; None without a file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


@contextmanager
def waited_for(saver: Saver) -> Iterator[Saver]:
    """Wait for the last checkpoint at the end of the block, also after an error or a signal.

    Raises:
        RunError: a checkpoint could not be written; after another error, which is raised, this is a warning.
    """
    try:
        yield saver
    except BaseException:
        try:
            saver.wait()
        except RunError as error:
            warnings.warn(str(error), stacklevel=3)
        raise
    saver.wait()
