"""When processes worked on a run: ``sittings.jsonl`` has a line when a process begins, and a line when it ends.

Times are read from inside the files. The times of the files themselves are not used, because copying changes them.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tskd_tune.errors import RunError
from tskd_tune.records.lines import json_line, parsed_line
from tskd_tune.records.store import Store

FILE: Final = "sittings.jsonl"
BEGUN, ENDED = "begun", "ended"


def stamp() -> str:
    """Return the time in UTC as ISO 8601, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def moment(text: object) -> datetime | None:
    """Return the time that a record gives as ISO 8601; None where it gives none."""
    with suppress(ValueError, TypeError):
        found = datetime.fromisoformat(text if isinstance(text, str) else "")
        return found if found.tzinfo else found.replace(tzinfo=UTC)
    return None


@contextmanager
def sitting(store: Store) -> Iterator[None]:
    """Note that a process works on a run until the end of the block.

    Raises:
        RunError: the run's store cannot be written.
    """
    store.append(FILE, json_line({BEGUN: stamp()}))
    try:
        yield
    finally:
        with suppress(RunError):  # what ended the block is told, not that its time could not be noted
            store.append(FILE, json_line({ENDED: stamp()}))


def sittings(store: Store) -> list[tuple[datetime, datetime | None]]:
    """Return begin and end of each sitting; the end is None where the process was killed, or works still.

    Raises:
        RunError: the file may not be read.
    """
    found: list[tuple[datetime, datetime | None]] = []
    for raw in store.lines(FILE):
        line = parsed_line(raw.decode(errors="replace"))
        begun, ended = moment((line or {}).get(BEGUN)), moment((line or {}).get(ENDED))
        if begun is not None:
            found.append((begun, None))
        elif ended is not None and found:
            found[-1] = (found[-1][0], ended)
    return found


def is_held(lock: Path) -> bool | None:
    """Tell whether a process of this machine holds a lock's file; None where there is no file or nothing tells.

    The file is only read. Whoever takes the lock in the same instant has to try again.
    """
    with suppress(OSError), lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        fcntl.flock(file, fcntl.LOCK_UN)
        return False
    return None


@dataclass(frozen=True)
class Times:
    """How long a run was worked on.

    Attributes:
        worked: seconds of all sittings together, without the time between them.
        sittings: how many there were: the first, and one for each resume and extension.
        last: when the run last wrote a record.
    """

    worked: float
    sittings: int
    last: datetime


def times(
    created: datetime,
    noted: Sequence[tuple[datetime, datetime | None]],
    marks: Iterable[datetime],
    now: datetime | None,
) -> Times:
    """Add up the sittings of a run.

    Args:
        created: when the run was created.
        noted: its `sittings`. A run that an older version began has none of its first ones: what it wrote before the
            first that is noted counts as one.
        marks: the time of each record that the run wrote.
        now: the present, if a process works on the run; the last sitting then lasts until now.
    """
    ends = [end for _, end in noted if end is not None]
    signs = sorted([created, *(begin for begin, _ in noted), *ends, *marks])
    spans = list(noted)
    if not spans or any(created < sign < spans[0][0] for sign in signs):
        spans.insert(0, (created, None))
    bounds = [*(begin for begin, _ in spans[1:]), None]
    lengths = [_length(span, bound, signs) for span, bound in zip(spans, bounds, strict=True)]
    if now is not None:
        lengths[-1] = (now - spans[-1][0]).total_seconds()
    return Times(max(0.0, sum(lengths)), len(spans), signs[-1])


def _length(span: tuple[datetime, datetime | None], bound: datetime | None, signs: Sequence[datetime]) -> float:
    """Return the seconds of a sitting; one without an end lasted until the last sign before the next sitting."""
    begin, end = span
    before = (sign for sign in signs if sign >= begin and (bound is None or sign < bound))
    return ((end or max(before, default=begin)) - begin).total_seconds()


def marks(times: Iterable[object]) -> list[datetime]:
    """Return the times that are given as ISO 8601; anything else is left out."""
    return [found for time in times if (found := moment(time)) is not None]
