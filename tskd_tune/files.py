"""Files that are whole or not there, and sentences for what a disk says."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from tskd_tune.errors import UnwritableError

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
        _sync_folder(path.parent)
    except OSError as error:
        raise disk_error("written", path, error) from error
    finally:
        with suppress(OSError):  # it was renamed, or never made
            part.unlink()


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
