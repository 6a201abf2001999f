"""Writes records as lines of JSON, and reads files of such lines, even damaged ones.

A line that cannot be read is left out with a warning; all other lines are read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeGuard, TypeVar

from tskd_tune.plain import Document, Json

TORN = "the last line is incomplete and is ignored; `tskd-tune resume` writes it again"
LEFT_OUT = "the line is ignored. `tskd-tune resume` trains the missing runs again; then delete the line"
# The keys of a history line with text; all other values are numbers.
TEXTS = ("phase", "time")
# The keys of a history line that say which epoch of which training it is.
WHOLE = ("seed", "epoch")
T = TypeVar("T")


@dataclass(frozen=True)
class OddLine:
    """A line that is left out: its bytes, and whether it is an incomplete last line, which a crash can leave."""

    raw: bytes
    torn: bool


@dataclass(frozen=True)
class Lines(Generic[T]):
    """The content of a file of JSON lines: the records, the lines that are left out, and a warning for each of them."""

    records: list[T] = field(default_factory=list)
    odd: list[OddLine] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)


def read_lines(lines: Iterable[bytes], place: str, read: Callable[[Document], T]) -> Lines[T]:
    """Read lines of JSON; unreadable lines are left out.

    Args:
        lines: the lines, each with a newline; a last line without a newline may be incomplete.
        place: the name of the file in messages.
        read: makes a record from an object; raises a ValueError that says what is wrong with the object.
    """
    found: Lines[T] = Lines()
    for number, line in enumerate(lines, start=1):
        raw = line.removesuffix(b"\n")
        try:
            found.records.append(read(_object(raw)))
        except ValueError as error:
            torn = raw is line and _parsed(raw) is None
            found.odd.append(OddLine(raw, torn))
            found.damage.append(f"{place}:{number}: {TORN if torn else f'{error}; {LEFT_OUT}'}")
    return found


@dataclass(frozen=True)
class HistoryLine:
    """A line of a history: one epoch of one seed.

    Attributes:
        epoch: the number of the epoch, from 0.
        phase: what the epoch did; None where the line does not say.
        numbers: everything that was measured, by name, with the learning rate and the seconds; None for a number that
            was not finite.
        time: when the line was written, as ISO 8601; None in lines of older versions.
    """

    seed: int
    epoch: int
    phase: str | None = None
    numbers: Mapping[str, float | None] = field(default_factory=dict)
    time: str | None = None

    def number(self, name: str) -> float | None:
        """Return a measured number; None if it was not measured or not finite."""
        return self.numbers.get(name)

    def plain(self) -> dict[str, int | float | str | None]:
        """Return the line as plain data, in the order in which it is written."""
        texts = {"phase": self.phase, "time": self.time}
        phase, time = ({name: text} if text is not None else {} for name, text in texts.items())
        return {"seed": self.seed, "epoch": self.epoch, **phase, **self.numbers, **time}

    @classmethod
    def read(cls, line: Mapping[str, object]) -> HistoryLine:
        """Read a line as plain data.

        Raises:
            ValueError: the line is not one epoch of one seed.
        """
        seed, epoch = (_whole(line, name) for name in WHOLE)
        texts: dict[str, str] = {}
        numbers: dict[str, float | None] = {}
        for name, value in line.items():
            if name in TEXTS:
                if not isinstance(value, str):
                    raise ValueError(f"is not an epoch of a seed: {name} is {value!r} and must be text")
                texts[name] = value
            elif name not in WHOLE:
                if not (value is None or isinstance(value, int | float)):
                    raise ValueError(f"is not an epoch of a seed: {name} is {value!r} and must be a number")
                numbers[name] = value
        return cls(seed, epoch, texts.get("phase"), numbers, texts.get("time"))


def _whole(line: Mapping[str, object], name: str) -> int:
    value = line.get(name)
    if not _is_whole(value):
        raise ValueError(f"is not an epoch of a seed: {name} is {value!r} and must be a whole number")
    return value


def interim_line(record: Document) -> Mapping[str, Json]:
    """Check the record of an interim analysis, and return the record unchanged.

    Raises:
        ValueError: the line is not the record of an interim analysis.
    """
    if not _is_whole(record.get("at")):
        raise ValueError(f"is not an interim analysis: at is {record.get('at')!r} and must be a number of seeds")
    for name, kind in (("stop", bool), ("sentence", str)):
        if not isinstance(record.get(name), kind):
            raise ValueError(f"is not an interim analysis: {name} is {record.get(name)!r}")
    return record


def json_line(record: Mapping[str, Json]) -> str:
    """Return one line of strict JSON; numbers that are not finite become null."""
    return json.dumps(_finite(record), ensure_ascii=False, allow_nan=False) + "\n"


def parsed_line(line: str) -> Document | None:
    """Return the object in a line of JSON, or None if the line is incomplete."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _object(raw: bytes) -> Document:
    if not raw.strip():
        raise ValueError("is a blank line")
    record = _parsed(raw)
    if record is None:
        raise ValueError("is not a JSON object")
    return record


def _parsed(raw: bytes) -> Document | None:
    try:
        return parsed_line(raw.decode())
    except UnicodeDecodeError:
        return None


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _finite(value: Json) -> Json:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
