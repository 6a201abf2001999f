"""Puts the teachers that a sweep sends onto a machine: once for all trials there, not once for each trial."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from filelock import FileLock

from tskd_tune.files import write_whole
from tskd_tune.training.teachers import TeacherCache, TeacherFile

_known: set[tuple[Path, int, int, int]] = set()


def placed(teacher: TeacherFile, content: bytes) -> TeacherFile:
    """Return a teacher whose file is on this machine, in the place of the driver's file or in this machine's cache.

    The first process of a machine writes the file, and the others wait for it. A process compares the content once.

    Args:
        teacher: the teacher, with the path of the file on the driver's machine.
        content: the content of the file.

    Raises:
        RunError: the disk is full, or the cache cannot be written.
    """
    assert teacher.path is not None and teacher.key is not None
    if _holds(teacher.path, content):
        return teacher
    cache = TeacherCache()
    path = cache.path(teacher.key)
    if not _holds(path, content):
        # Not the lock of the cache, which a run holds while it trains this teacher.
        with FileLock(cache.folder / f"{teacher.key}.placed.lock"):
            if not _holds(path, content):
                write_whole(path, content)
    return replace(teacher, path=path)


def _holds(path: Path, content: bytes) -> bool:
    """Return whether a file exists and has this content; a file that was compared before is not read again."""
    try:
        found = path.stat()
    except OSError:
        return False
    seen = path, found.st_mtime_ns, found.st_size, hash(content)
    if seen not in _known:
        if found.st_size != len(content) or path.read_bytes() != content:
            return False
        _known.add(seen)
    return True
