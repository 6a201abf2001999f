"""Whole files of text in a run's folder, and what a kill left half written there."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from pathlib import Path

from tskd_tune.files import disk_error

# A folder that is being made is whole after moments. A folder of another run that is older was left by a kill.
STALE_SECONDS = 3600.0


def read_text(path: Path) -> str:
    """Read a file as UTF-8; bytes that a crash left in the middle of a character are replaced.

    Raises:
        RunError: the file is gone or may not be read.
    """
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError as error:
        raise disk_error("read", path, error) from error


def remove_parts(folder: Path) -> None:
    """Remove what a kill left half written: files in a run's folder, and folders of runs that were never made.

    Only the process that holds the run's lock may do so.
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
