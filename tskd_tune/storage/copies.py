"""Folders of this machine that stand for a run on an object storage, in the cache of this user."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import platformdirs
from filelock import FileLock, Timeout

from tskd_tune.errors import InputError, RunError
from tskd_tune.files import disk_error
from tskd_tune.paths import Address, whole_path

CACHE_VARIABLE: Final = "TSKD_TUNE_CACHE"
LOCK_SECONDS: Final = 120.0


def runs_folder() -> Path:
    """Return the folder of all copies: ``$TSKD_TUNE_CACHE/runs``, or below the user's cache folder.

    Raises:
        InputError: the variable names no folder.
    """
    given = os.environ.get(CACHE_VARIABLE)
    try:
        return whole_path(given or platformdirs.user_cache_dir("tskd-tune")) / "runs"
    except ValueError as error:
        raise InputError(f"{CACHE_VARIABLE}: {error}") from error


@dataclass(frozen=True)
class RunAt:
    """How a process on any machine finds a run on an object storage.

    Attributes:
        address: the run's address.
        key: tells the run from an earlier one at this address.
    """

    address: Address
    key: str


@dataclass(frozen=True)
class Copy:
    """The folders that stand for one run on this machine.

    Attributes:
        root: holds all of it.
        run: looks like the folder of a run; its name is the run's name.
        log: the parts of the run's log.
    """

    root: Path
    run: Path
    log: Path

    @classmethod
    def of(cls, run: RunAt) -> Copy:
        """Return the folders of a run, which are made where they are missing.

        Raises:
            InputError: the cache is no folder.
            RunError: the folders cannot be made.
        """
        root = runs_folder() / hashlib.sha256(f"{run.address} {run.key}".encode()).hexdigest()[:16]
        copy = cls(root, root / run.address.name, root / "log")
        try:
            (copy.log / "unsent").mkdir(parents=True, exist_ok=True)
            copy.run.mkdir(exist_ok=True)
            (root / "address").write_text(f"{run.address}\n", encoding="utf-8")
        except OSError as error:
            raise disk_error("written", root, error) from error
        return copy

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes of this machine from changing the folders until the end of the block.

        Raises:
            RunError: another process holds the lock for long.
        """
        try:
            with FileLock(self.root / "copy.lock", timeout=LOCK_SECONDS):
                yield
        except Timeout as error:
            raise RunError(
                f"{self.root}: another process has been reading this run for {LOCK_SECONDS:g} s; wait until it ends, or"
                " end it"
            ) from error

    def remove(self) -> None:
        """Remove the folders."""
        shutil.rmtree(self.root, ignore_errors=True)
