"""Stores of records: named bytes, and named files of lines that grow by appending.

The only kind of store is a folder of this machine. The cost of appending does not depend on the number of lines.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Protocol

from tskd_tune.errors import RunError
from tskd_tune.files import disk_error, sync_folder, write_whole
from tskd_tune.records.storing.lines import parsed_line

PATIENCE: Final = 60.0
"""Seconds that a process waits for another process before appending."""

_PAUSE: Final = 0.02
_BLOCK: Final = 1 << 16


class Store(Protocol):
    """A store; names are relative paths such as ``trials/00000/history.jsonl``, and every failure is a RunError."""

    def read(self, name: str) -> bytes | None:
        """Return the content of a name; None if the name does not exist."""

    def write(self, name: str, data: bytes | Path) -> None:
        """Replace the content of a name, completely or not at all; a path is a file whose content is copied."""

    def append(self, name: str, lines: str, *, durable: bool = True) -> None:
        """Append complete lines, after removing an incomplete last line; processes take turns.

        Lines that are not ``durable`` outlive this process at once, and a loss of power only after `sync`.
        """

    def sync(self, name: str) -> None:
        """Make the lines of a name outlive a loss of power, if the name exists."""

    def lines(self, name: str) -> Iterator[bytes]:
        """Iterate over the lines of a name, if it exists; only a line left incomplete by a crash has no newline."""

    def names(self, folder: str = "") -> list[str]:
        """Return the names directly under a folder, sorted; the names of folders end with a slash."""

    def delete(self, name: str) -> None:
        """Remove a name, if it exists."""

    def version(self, name: str) -> Hashable:
        """Return a value that changes with a name's content; None if the name does not exist."""

    def place(self, name: str) -> str:
        """Return how messages call a name."""


class LocalStore:
    """A store in a folder of this machine or of a shared file system.

    Attributes:
        check: is called before something is written; raises a `RunError` if this process may not write any more.
    """

    def __init__(self, folder: Path) -> None:
        """Keep everything under ``folder``, which must exist when something is written."""
        self.folder = folder
        self.check: Callable[[], None] = lambda: None

    def read(self, name: str) -> bytes | None:
        """Return the content of a file; None if there is no file.

        Raises:
            RunError: the file cannot be read.
        """
        path = self.folder / name
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise disk_error("read", path, error) from error

    def write(self, name: str, data: bytes | Path) -> None:
        """Replace a file, completely or not at all.

        Raises:
            RunError: the disk is full, or the folder is missing or cannot be written.
        """
        path = self._made(name)
        if not isinstance(data, Path):
            write_whole(path, data)
            return
        part = path.with_suffix(".part")
        try:
            shutil.copyfile(data, part)
            part.replace(path)
        except OSError as error:
            raise disk_error("written", path, error) from error
        finally:
            with suppress(OSError):  # the temporary file was renamed, or never made
                part.unlink()

    def append(self, name: str, lines: str, *, durable: bool = True) -> None:
        """Append complete lines, after removing an incomplete last line.

        Processes take turns. If the disk is full, the file does not change. To wait for the disk takes milliseconds, so
        lines that are not ``durable`` reach the disk some seconds later, or with `sync`.

        Raises:
            RunError: the disk is full, the folder is missing or cannot be written, or another process locks the file.
        """
        path = self._made(name)
        try:
            new = not path.exists()
            with _held(path) as handle:
                _mend_tail(handle)
                _write_or_undo(handle, lines.encode(), durable)
            if new and durable:
                sync_folder(path.parent)
        except OSError as error:
            raise disk_error("written", path, error) from error

    def sync(self, name: str) -> None:
        """Make the lines of a file outlive a loss of power, if the file exists.

        Raises:
            RunError: the disk is full, or the file cannot be read.
        """
        path = self.folder / name
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
            sync_folder(path.parent)
        except FileNotFoundError:
            return
        except OSError as error:
            raise disk_error("written", path, error) from error

    def lines(self, name: str) -> Iterator[bytes]:
        """Iterate over the lines of a file; only a line left incomplete by a crash has no newline.

        Raises:
            RunError: the file cannot be read.
        """
        return _lines(self.read(name) or b"")

    def names(self, folder: str = "") -> list[str]:
        """Return the names directly under a folder, sorted; the names of folders end with a slash.

        Raises:
            RunError: the folder cannot be read.
        """
        path = self.folder / folder
        try:
            found = [f"{entry.name}/" if entry.is_dir() else entry.name for entry in os.scandir(path)]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise disk_error("read", path, error) from error
        return sorted(found)

    def delete(self, name: str) -> None:
        """Remove a file, if it exists.

        Raises:
            RunError: the file cannot be removed.
        """
        path = self.folder / name
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise disk_error("removed", path, error) from error

    def version(self, name: str) -> Hashable:
        """Return a value that changes with a file's content; None if there is no file."""
        try:
            found = (self.folder / name).stat()
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns

    def place(self, name: str) -> str:
        """Return the path of a file."""
        return str(self.folder / name)

    def _made(self, name: str) -> Path:
        """Return the path of a file after creating its folder; the store's own folder is never created."""
        self.check()
        path = self.folder / name
        try:
            if not self.folder.is_dir():
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error("written", path, error) from error
        return path


def _lines(content: bytes) -> Iterator[bytes]:
    """Split at newlines only; other line separators may be part of a line."""
    begin = 0
    while (end := content.find(b"\n", begin) + 1) > 0:
        yield content[begin:end]
        begin = end
    if begin < len(content):
        yield content[begin:]


@contextmanager
def _held(path: Path) -> Iterator[int]:
    """Open a file for appending and keep other processes from appending until the end of the block.

    Raises:
        OSError: the file cannot be opened or locked.
        RunError: another process has locked the file for a minute.
    """
    until = time.monotonic() + PATIENCE
    while True:
        handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            if _locks(handle) and _is_still(path, handle):
                yield handle
                return
        finally:
            os.close(handle)  # this also ends the lock
        if time.monotonic() > until:
            raise RunError(
                f"{path}: has been locked for {PATIENCE:g} s by another process; end that process and run"
                " `tskd-tune resume`"
            )
        time.sleep(_PAUSE)


def _locks(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_still(path: Path, handle: int) -> bool:
    """Tell whether the path still leads to the open file; another process may have replaced the file."""
    try:
        return path.stat().st_ino == os.fstat(handle).st_ino
    except FileNotFoundError:
        return False


def _mend_tail(handle: int) -> None:
    """Remove an incomplete last line; a complete line without a newline gets a newline."""
    size = os.fstat(handle).st_size
    tail = _tail(handle, size)
    if not tail:
        return
    if parsed_line(tail.decode(errors="replace")) is None:
        os.ftruncate(handle, size - len(tail))
    else:
        _write(handle, b"\n")


def _tail(handle: int, size: int) -> bytes:
    """Return the bytes after the last newline."""
    tail, begin = b"", size
    while begin > 0:
        length = min(_BLOCK, begin)
        begin -= length
        block = os.pread(handle, length, begin)
        _, newline, rest = block.rpartition(b"\n")
        if newline:
            return rest + tail
        tail = block + tail
    return tail


def _write_or_undo(handle: int, content: bytes, durable: bool) -> None:
    """Write everything, and wait for the disk if it is to be ``durable``; after a failure, restore the file."""
    before = os.fstat(handle).st_size
    try:
        _write(handle, content)
        if durable:
            os.fsync(handle)
    except BaseException:
        with suppress(OSError):
            os.ftruncate(handle, before)
        raise


def _write(handle: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(handle, rest) :]
