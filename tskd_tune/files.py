"""Writes files completely or not at all, and makes messages for errors of the disk."""

from __future__ import annotations

import errno
import os
import shutil
import stat
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
    """Make the error for a failed ``action`` (``written``, ``read``) on ``path``, with the system's own text."""
    text = error.strerror or str(error)
    remedy = REMEDIES.get(error.errno or 0, "check the disk")
    return UnwritableError(f"{path}: could not be {action} ({text}); {remedy} and run `tskd-tune resume`")


def refuse_endless(mode: int) -> None:
    """Refuse a pipe, which would be waited for, and a device, which has no end.

    Args:
        mode: the ``st_mode`` of the file.

    Raises:
        OSError: with the reason in the place of the system's own text.
    """
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OSError(errno.EINVAL, "it is a pipe or a device, not a file on a disk")


def read_file(path: Path) -> bytes:
    """Read a file that somebody else made.

    Raises:
        OSError: it cannot be read, or it is a pipe or a device.
    """
    refuse_endless(path.stat().st_mode)
    return path.read_bytes()


def write_whole(path: Path, content: str | bytes | memoryview) -> None:
    """Write a file so that at any time, even after a crash, it has either the old or the new content.

    Text is written as UTF-8.

    Raises:
        RunError: the disk is full, the folder is missing or cannot be written.
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
        with suppress(OSError):  # the temporary file was renamed, or never made
            part.unlink()


def is_full(error: BaseException) -> bool:
    """Tell whether an error or one of its causes is a full disk or an exhausted quota.

    Errors of Ray's workers arrive as text, so the text is searched too.
    """
    seen: list[BaseException] = []
    while error not in seen:
        seen.append(error)
        if isinstance(error, OSError) and error.errno in FULL:
            return True
        error = error.__cause__ or error.__context__ or error
    return any(sign in str(one) for one in seen for sign in SIGNS_OF_A_FULL_DISK)


def fullest(paths: Iterable[Path]) -> Path:
    """Return the path on the disk with the least space left; for a missing path the folder above is checked."""

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
