"""Files that are whole or not there, and sentences for what a disk says."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final
from uuid import uuid4

from tskd_tune.errors import UnwritableError

FULL: Final = (errno.ENOSPC, errno.EDQUOT)
SIGNS_OF_A_FULL_DISK: Final = (*(os.strerror(number) for number in FULL), "Local disk is full", "OutOfDiskError")
REMEDIES = {
    errno.ENOSPC: "free some space there",
    errno.EDQUOT: "free some of the quota there",
    errno.EACCES: "allow this user to write there",
    errno.EPERM: "allow this user to write there",
    errno.EROFS: "make the file system writable",
    errno.ENOENT: "put the run's folder back where it was",
}


def disk_error(action: str, path: Path, error: OSError) -> UnwritableError:
    """Make the sentence for a failed ``action`` (``written``, ``read``) on ``path``, with errno's own text."""
    text = error.strerror or str(error)
    remedy = REMEDIES.get(error.errno or 0, "look at the disk")
    return UnwritableError(f"{path}: could not be {action} ({text}); {remedy} and run `tskd-tune resume`")


def write_whole(path: Path, content: str | bytes | memoryview) -> None:
    """Write a file so that a reader, or a crash, finds the old content or the new one and nothing between.

    Text is written as UTF-8.

    Raises:
        RunError: the disk is full, the folder is gone or may not be written.
    """
    part = path.with_name(f".{path.name}.{uuid4().hex}.part")
    try:
        with part.open("xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise disk_error("written", path, error) from error
    finally:
        with suppress(OSError):  # it was renamed, or never made
            part.unlink()


def is_full(error: BaseException) -> bool:
    """Tell whether a full disk, or a used-up quota, is what an error or one of its causes comes from.

    Errors of Ray's workers arrive as text, so that the text counts too.
    """
    seen: list[BaseException] = []
    while error not in seen:
        seen.append(error)
        if isinstance(error, OSError) and error.errno in FULL:
            return True
        error = error.__cause__ or error.__context__ or error
    return any(sign in str(one) for one in seen for sign in SIGNS_OF_A_FULL_DISK)


def fullest(paths: Iterable[Path]) -> Path:
    """Return the path on the disk with the least space left; what is not there yet goes by the folder above."""

    def space_left(path: Path) -> int:
        there = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
        return shutil.disk_usage(there).free

    return min(paths, key=space_left)


def sync_folder(folder: Path) -> None:
    """Write a folder's list of names to the disk, so that a new file is still there after a crash."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
