"""Text and lines of JSON in a run's folder; a torn last line, which a crash leaves, is mended.

A line that cannot be read is never a reason to hide the others: it is left out, and a sentence says so.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from tskd_tune.files import disk_error

# A folder that is being made is whole after moments; one of another run that is older was left by a kill.
STALE_SECONDS = 3600.0
# What an epoch says in words; all else of a history line are numbers.
TEXTS = ("phase", "time")
T = TypeVar("T")


@dataclass(frozen=True)
class OddLine:
    """A line that is left out: its bytes, and whether it is a last line that a crash tore."""

    raw: bytes
    torn: bool


@dataclass(frozen=True)
class Lines(Generic[T]):
    """What a file of JSON lines holds: its records, the lines that are left out, and a sentence for each of those."""

    records: list[T] = field(default_factory=list)
    odd: list[OddLine] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)


def read_lines(path: Path, read: Callable[[dict[str, Any]], T]) -> Lines[T]:
    """Read a file of JSON lines, whatever it holds; a file that is not there has none.

    Args:
        path: the file.
        read: makes a record out of an object; raises ValueError with what is wrong with it.

    Raises:
        RunError: the file may not be read.
    """
    found: Lines[T] = Lines()
    if not path.exists():
        return found
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise disk_error("read", path, error) from error
    ended = not lines[-1]
    for number, raw in enumerate(lines[:-1] if ended else lines, start=1):
        try:
            found.records.append(read(_object(raw)))
        except ValueError as error:
            torn = not ended and number == len(lines) and _parsed(raw) is None
            found.odd.append(OddLine(raw, torn))
            found.damage.append(f"{path}:{number}: {TORN if torn else f'{error}; {LEFT_OUT}'}")
    return found


TORN = "the last line is torn and left out; `tskd-tune resume` makes it anew"
LEFT_OUT = "the line is left out. `tskd-tune resume` trains again what is missing; then delete the line"


def _object(raw: bytes) -> dict[str, Any]:
    if not raw.strip():
        raise ValueError("is a blank line")
    record = _parsed(raw)
    if record is None:
        raise ValueError("is not a JSON object")
    return record


def _parsed(raw: bytes) -> dict[str, Any] | None:
    try:
        return parsed_line(raw.decode())
    except UnicodeDecodeError:
        return None


def history_line(record: dict[str, Any]) -> dict[str, Any]:
    """Return a line of a history as it is.

    Raises:
        ValueError: it is not one epoch of one seed.
    """
    for name in ("seed", "epoch"):
        if not _is_whole(record.get(name)):
            raise ValueError(f"is not an epoch of a seed: {name} is {record.get(name)!r} and must be a whole number")
    for name, value in record.items():
        if name in TEXTS and not isinstance(value, str):
            raise ValueError(f"is not an epoch of a seed: {name} is {value!r} and must be text")
        if name not in TEXTS and not (value is None or isinstance(value, int | float)):
            raise ValueError(f"is not an epoch of a seed: {name} is {value!r} and must be a number")
    return record


def look_line(record: dict[str, Any]) -> dict[str, Any]:
    """Return the record of a look as it is.

    Raises:
        ValueError: it is not what a look leaves.
    """
    if not _is_whole(record.get("at")):
        raise ValueError(f"is not a look: at is {record.get('at')!r} and must be a number of seeds")
    for name, kind in (("stop", bool), ("sentence", str)):
        if not isinstance(record.get(name), kind):
            raise ValueError(f"is not a look: {name} is {record.get(name)!r}")
    return record


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def remove_parts(folder: Path) -> None:
    """Remove what a kill left half written: files in a run's folder, and folders of runs that were never made.

    Only whoever holds the run's lock may do so.
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
    except (ValueError, RecursionError):
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
