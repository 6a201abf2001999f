"""Reads text files in a run's folder, removes what a killed process left there, and refuses links out of the folder."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

from tskd_tune.errors import InputError, TskdTuneError
from tskd_tune.files import disk_error
from tskd_tune.paths import Address

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


def refuse_links(folder: Path) -> None:
    """Refuse a run whose folder has a link that leads out of it: a resume would write through the link.

    A run may come from somebody else. The folder itself may be a link. W&B links a log of each of its runs to a log of
    its own service; a resume makes new folders of W&B's, so nothing writes through these links.

    Raises:
        InputError: there is such a link.
    """
    inside = folder.resolve()
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(place, name)
            if path.is_symlink() and not path.resolve().is_relative_to(inside) and not _is_log_of_wandb(path, folder):
                raise InputError(
                    f"{path}: is a link to {path.readlink()}, which is not in the run's folder; a resume would write"
                    " there, so replace the link by what it leads to"
                )


def _is_log_of_wandb(path: Path, folder: Path) -> bool:
    return path.relative_to(folder).match("wandb/*/logs/debug-core.log")


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


def damaged_document(place: Path | Address, error: TskdTuneError) -> str:
    """Return the warning that the ``sweep.yaml`` of a run cannot be read, and how this affects what is shown of it."""
    name = f"{place}/sweep.yaml"
    what = " ".join(str(error).split())
    where = "" if what.startswith(name) else f"{name}: "
    return f"{where}{what}. The report lacks what only this file records; restore the file before `tskd-tune resume`"
