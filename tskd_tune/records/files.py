"""Text and lines of JSON in a run's folder; a torn last line, which a crash leaves, is mended."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tskd_tune.files import disk_error


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
