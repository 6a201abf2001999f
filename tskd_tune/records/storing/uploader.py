"""Brings what a driver writes to an object storage, in a thread, while the sweep goes on.

Every change of the run's files is on this machine first. The thread gathers changes for some seconds, and uploads them
as one part of the run's log (`tskd_tune.records.storing.log`). It also renews the driver's lease. While the storage
fails, the changes wait on this machine.
"""

from __future__ import annotations

import math
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from tskd_tune.errors import RunError
from tskd_tune.files import disk_error
from tskd_tune.records.storing import log
from tskd_tune.storage.copies import Copy
from tskd_tune.storage.failures import StorageError
from tskd_tune.storage.lease import RENEWAL, Lease
from tskd_tune.storage.objects import Objects
from tskd_tune.storage.patience import Patience

GATHER: Final = 5.0
"""Seconds for which changes are gathered; rows go after `SOON`."""

SOON: Final = 0.5
FOLLOW: Final = 60.0
"""Seconds between two uploads of a file that another library appends to."""

JOIN_AFTER: Final = 200
"""So many parts of one driver are joined to one."""

JOIN_LAST: Final = 10
"""The same at the end of a driver, for those who look at the run later."""

OPEN: Final = ".open"


@dataclass
class _Waiting:
    """The changes that no part holds yet: since when, and whether they may wait."""

    since: float | None = None
    urgent: bool = False
    file: Path | None = None


@dataclass
class _Followed:
    """A file that is uploaded whole when it has changed."""

    name: str
    path: Path
    next: float
    version: tuple[int, int] | None = None


class Uploader:
    """Uploads the changes of one driver.

    Attributes:
        patience: repeats what the storage refuses for a while.
    """

    def __init__(
        self,
        objects: Objects,
        copy: Copy,
        lease: Lease,
        tell: Callable[[str], None],
        *,
        followed: Sequence[str] = (),
        at_end: Sequence[str] = (),
        patience: float | None = None,
    ) -> None:
        """Upload to ``objects`` what is kept in ``copy``.

        Args:
            objects: the run's objects.
            copy: the folders of this machine.
            lease: the driver's.
            tell: hears what is waited for.
            followed: names of files that other libraries write, and that are uploaded whole from time to time.
            at_end: names of files that are uploaded whole at the end, for people who look at the storage.
            patience: seconds for which a storage may fail; None: `tskd_tune.storage.patience.SECONDS`.
        """
        self._objects = objects
        self._copy = copy
        self._lease = lease
        self.patience = Patience(tell, patience)
        self._followed = [_Followed(name, copy.run / name, time.monotonic()) for name in followed]
        self._followed += [_Followed(name, copy.run / name, math.inf) for name in at_end]
        self._number = log.next_number([path.name for path in copy.log.iterdir()], lease.token)
        self._parts: list[str] = []
        self._waiting = _Waiting()
        self._ended: list[str] = []
        self._forgotten: list[str] = []
        self._renew_at = time.monotonic() + RENEWAL
        self._failure: RunError | None = None
        self._over = False
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="storage", daemon=True)

    def start(self) -> None:
        """Begin to upload."""
        self._thread.start()

    def add(self, change: log.Change, *, urgent: bool) -> None:
        """Keep a change on this machine until it is uploaded.

        Raises:
            RunError: the change cannot be kept.
        """
        with self._news:
            waiting = self._waiting
            if waiting.file is None:
                waiting.file = self._copy.log / "unsent" / (log.part_name(self._lease.token, self._number) + OPEN)
                waiting.since = time.monotonic()
                self._number += 1
            try:
                with waiting.file.open("ab") as file:
                    file.write(change.line().encode())
            except OSError as error:
                raise disk_error("written", waiting.file, error) from error
            waiting.urgent = waiting.urgent or urgent
            self._news.notify()

    def forget(self, folder: str) -> None:
        """Remove the checkpoints in a folder after the changes until now are uploaded: they hold the training's row."""
        with self._news:
            self._ended.append(folder)

    def check(self) -> None:
        """Raise what ended the uploads, if anything did.

        Raises:
            RunError: another driver has taken the run over, or the storage failed for too long.
        """
        if self._failure is not None:
            raise self._failure

    def stop(self, seconds: float) -> None:
        """Upload the rest, for at most so many seconds, and end.

        Raises:
            RunError: as `check`.
        """
        self.patience.shorten(seconds)
        with self._news:
            self._over = True
            self._news.notify()
        self._thread.join()
        self.check()

    def _work(self) -> None:
        try:
            while True:
                over = self._wait()
                if time.monotonic() >= self._renew_at:
                    self.patience.repeat(self._lease.renew)
                    self._renew_at = time.monotonic() + RENEWAL
                self._seal()
                self._send(JOIN_LAST if over else JOIN_AFTER)
                self._forget()
                self._follow(at_once=over)
                if over:
                    return
        except StorageError as error:
            self._failure = RunError(self._gave_up(error))
        except RunError as error:
            self._failure = error

    def _wait(self) -> bool:
        """Wait until there is something to do; return whether it is the last time."""
        with self._news:
            while not self._over:
                until = self._renew_at
                if self._waiting.since is not None:
                    until = min(until, self._waiting.since + (SOON if self._waiting.urgent else GATHER))
                left = until - time.monotonic()
                if left <= 0:
                    break
                self._news.wait(left)
            return self._over

    def _seal(self) -> None:
        """Close the part that is being gathered."""
        with self._news:
            file, self._waiting = self._waiting.file, _Waiting()
            self._forgotten, self._ended = self._ended, []
            if file is not None:
                file.replace(file.with_name(file.name.removesuffix(OPEN)))

    def _send(self, join_after: int) -> None:
        for path in sorted((self._copy.log / "unsent").iterdir()):
            if path.name.endswith(OPEN):
                continue
            self.patience.repeat(partial(self._objects.write, f"{log.FOLDER}/{path.name}", path))
            path.replace(self._copy.log / path.name)
            self._parts.append(path.name)
        if len(self._parts) >= join_after:
            self.join(self._parts)
            self._parts = []

    def _forget(self) -> None:
        for folder in self._forgotten:
            for name in self.patience.repeat(partial(self._objects.names, folder)):
                if name.rpartition("/")[2].startswith("checkpoint"):
                    self.patience.repeat(partial(self._objects.delete, name))

    def join(self, names: Sequence[str]) -> None:
        """Join parts that are uploaded, neighbors and in order, to one part.

        Raises:
            RunError: the storage or the disk fails.
        """
        parts = [(name, (self._copy.log / name).read_bytes()) for name in names]
        name, content = log.joined(parts, self._objects.place(log.FOLDER))
        path = self._copy.log / name
        path.write_bytes(content)
        self.patience.repeat(partial(self._objects.write, f"{log.FOLDER}/{name}", path))
        for old in names:
            self.patience.repeat(partial(self._objects.delete, f"{log.FOLDER}/{old}"))
            (self._copy.log / old).unlink(missing_ok=True)

    def _follow(self, *, at_once: bool) -> None:
        for followed in self._followed:
            if not at_once and time.monotonic() < followed.next:
                continue
            try:
                found = followed.path.stat()
            except OSError:
                continue
            version = found.st_size, found.st_mtime_ns
            if version != followed.version:
                self.patience.repeat(partial(self._objects.write, followed.name, followed.path))
                followed.version = version
            followed.next = max(followed.next, time.monotonic() + FOLLOW)

    def _gave_up(self, error: StorageError) -> str:
        waited = f"for {self.patience.seconds:.0f} s" if self.patience.seconds >= 1 else "now"
        return (
            f"{self._objects.address}: {error.problem} {waited}, so the sweep ends here; what could not be uploaded is"
            f" kept in {self._copy.root} on {socket.gethostname()}. When the storage works again, run `tskd-tune resume"
            f" {self._objects.address}` on this machine, which uploads it first"
        )


def leftover(copy: Copy) -> list[str]:
    """Return the names of the parts that an earlier driver of this machine could not upload, the open one closed."""
    folder = copy.log / "unsent"
    for path in folder.glob(f"*{OPEN}"):
        os.replace(path, path.with_name(path.name.removesuffix(OPEN)))  # noqa: PTH105
    return sorted(path.name for path in folder.iterdir())
