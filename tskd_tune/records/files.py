"""Reads text files in a run's folder, and removes files that a killed process left incomplete."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from pathlib import Path

from tskd_tune.files import disk_error

# Creating a run's folder takes moments. An incomplete folder older than this was left by a killed process.
STALE_SECONDS = 3600.0


def read_text(path: Path) -> str:
    """Read a file as UTF-8; an incomplete character, which a crash can leave, is replaced.

    Raises:
        RunError: the file is missing or cannot be read.
    """
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError as error:
        raise disk_error("read", path, error) from error


def remove_parts(folder: Path) -> None:
    """Remove what a killed process left incomplete: files in a run's folder, and folders of runs never completed.

    Only the process that holds the run's lock may call this function.
    """
    with suppress(OSError):
        for part in [*folder.rglob("*.part")]:
            _remove(part)
        for part in folder.parent.glob(".*.part"):
            mine = part.name.startswith(f".{folder.name}.")
            if mine or time.time() - part.stat().st_mtime > STALE_SECONDS:
                _remove(part)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
