"""The store of a run on an object storage: a folder of this machine, whose changes are brought to the storage."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

from tskd_tune.records.storing.log import Change
from tskd_tune.records.storing.store import LocalStore
from tskd_tune.records.storing.uploader import Uploader
from tskd_tune.storage.objects import Objects

DOCUMENT: Final = "sweep.yaml"
"""The resolved document: also an object, which users read and edit as the file of a folder."""

# What the run's log holds; everything else is an object of its own.
_IN_LOG: Final = (".json", ".jsonl", ".yaml", ".txt")


class MirroredStore:
    """Reads and writes a folder of this machine, and brings what is written to the storage.

    A process that trains the run writes records, which an `Uploader` brings in the background. A process that only
    shows the run writes no records, but pages such as the report, which are uploaded at once.
    """

    def __init__(self, folder: Path, objects: Objects) -> None:
        """Write to ``folder`` and to ``objects``."""
        self._local = LocalStore(folder)
        self._objects = objects
        self._lock = threading.Lock()
        self.uploader: Uploader | None = None

    def read(self, name: str) -> bytes | None:
        """Return the content of a name; None if the name does not exist."""
        return self._local.read(name)

    def write(self, name: str, data: bytes | Path) -> None:
        """Replace the content of a name, completely or not at all.

        Raises:
            RunError: the disk or the storage is full or fails, or another driver has taken the run over.
        """
        uploader = self.uploader
        if uploader is None or isinstance(data, Path) or not name.endswith(_IN_LOG):
            self._local.write(name, data)
            write = partial(self._objects.write, name, data)
            write() if uploader is None else uploader.patience.repeat(write)
            return
        if name == DOCUMENT:  # first, so that only an edit can differ from the log
            uploader.patience.repeat(partial(self._objects.write, name, data))
        with self._lock:
            uploader.check()
            self._local.write(name, data)
            uploader.add(Change(name, "write", data.decode()), urgent=False)

    def append(self, name: str, lines: str, *, durable: bool = True) -> None:
        """Append complete lines; they are on the storage some seconds later, or soon if they are ``durable``.

        Raises:
            RunError: the disk is full, no process of this machine trains the run, the storage failed for too long, or
                another driver has taken the run over.
        """
        uploader = self._uploading()
        with self._lock:
            uploader.check()
            self._local.append(name, lines, durable=durable)
            uploader.add(Change(name, "append", lines), urgent=durable)

    def sync(self, name: str) -> None:
        """Make the lines of a name outlive a loss of power, if the name exists."""
        self._local.sync(name)

    def lines(self, name: str) -> Iterator[bytes]:
        """Iterate over the lines of a name, if it exists."""
        return self._local.lines(name)

    def names(self, folder: str = "") -> list[str]:
        """Return the names directly under a folder, sorted; the names of folders end with a slash."""
        return self._local.names(folder)

    def delete(self, name: str) -> None:
        """Remove a name, if it exists.

        Raises:
            RunError: as `append`.
        """
        uploader = self._uploading()
        with self._lock:
            if self._local.version(name) is None:
                return
            uploader.check()
            self._local.delete(name)
            uploader.add(Change(name, "delete"), urgent=False)

    def version(self, name: str) -> Hashable:
        """Return a value that changes with a name's content; None if the name does not exist."""
        return self._local.version(name)

    def place(self, name: str) -> str:
        """Return the address of a name."""
        return self._objects.place(name)

    def _uploading(self) -> Uploader:
        assert self.uploader is not None, "only a process inside RunFolder.alone writes records"
        return self.uploader
