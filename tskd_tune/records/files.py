"""Files that are whole or not there: atomic writes, lines of JSON that survive a torn tail, and sentences for errno."""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

from tskd_tune.errors import RunError

REMEDIES = {
    errno.ENOSPC: "free some space there",
    errno.EDQUOT: "free some of the quota there",
    errno.EACCES: "allow this user to write there",
    errno.EPERM: "allow this user to write there",
    errno.EROFS: "make the file system writable",
    errno.ENOENT: "put the run's folder back where it was",
}


def disk_error(action: str, path: Path, error: OSError) -> RunError:
    """Make the sentence for a failed ``action`` (``written``, ``read``) on ``path``, with errno's own text."""
    text = error.strerror or str(error)
    remedy = REMEDIES.get(error.errno or 0, "look at the disk")
    return RunError(f"{path}: could not be {action} ({text}); {remedy} and run `tskd-tune resume`")


def write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader, or a crash, finds the old text or the new one and nothing between.

    Raises:
        RunError: the disk is full, the folder is gone or may not be written.
    """
    try:
        _replace(path, text.encode())
    except OSError as error:
        raise disk_error("written", path, error) from error


def _replace(path: Path, content: bytes) -> None:
    part = path.with_name(f".{path.name}.{uuid4().hex}.part")
    try:
        with part.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_text(path: Path) -> str:
    """Read a file as UTF-8; bytes that a crash left in the middle of a character are replaced.

    Raises:
        RunError: the file is gone or may not be read.
    """
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError as error:
        raise disk_error("read", path, error) from error


def json_line(record: Mapping[str, Any]) -> str:
    """Return one line of strict JSON; numbers that are not finite become null, which JSON can say."""
    return json.dumps(_finite(record), ensure_ascii=False, allow_nan=False) + "\n"


def append_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Append records as lines of JSON, after a tail that a crash tore is cut off (its epoch is run again).

    Raises:
        RunError: the disk is full, the folder cannot be made or may not be written.
    """
    content = "".join(map(json_line, records)).encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            _mend_tail(path, file.fileno())
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise disk_error("written", path, error) from error


def _mend_tail(path: Path, handle: int) -> None:
    """Cut an unfinished last line; a whole one that only lacks its newline gets it."""
    head, _, tail = path.read_bytes().rpartition(b"\n")
    if not tail:
        return
    if parsed_line(tail.decode(errors="replace")) is None:
        os.ftruncate(handle, len(head) + 1 if head else 0)
    else:
        os.write(handle, b"\n")


def parsed_line(line: str) -> dict[str, Any] | None:
    """Return the object that a line of JSON holds, or None if the line is torn."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
