"""Records when processes worked on a run: each process writes a line to ``sittings.jsonl`` at the start and at the end.

A sitting is the time between the two lines. Times are read from records, because copying a file can change its time.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from tskd_tune.errors import InputError, RunError
from tskd_tune.paths import StoragePlace
from tskd_tune.plain import Document
from tskd_tune.records.storing.lines import json_line, parsed_line
from tskd_tune.records.storing.shared import leased
from tskd_tune.records.storing.store import Store
from tskd_tune.signals import Ended

FILE: Final = "sittings.jsonl"
BEGUN, ENDED, BY = "begun", "ended", "by"


def stamp() -> str:
    """Return the time in UTC as ISO 8601, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def moment(text: object) -> datetime | None:
    """Return a time that a record gives as ISO 8601; None without such a time."""
    with suppress(ValueError, TypeError):
        found = datetime.fromisoformat(text if isinstance(text, str) else "")
        return found if found.tzinfo else found.replace(tzinfo=UTC)
    return None


@contextmanager
def sitting(store: Store) -> Iterator[None]:
    """Record that a process works on a run until the end of the block, with its machine, and which signal ended it.

    Raises:
        RunError: the run's store cannot be written.
    """
    store.append(FILE, json_line({BEGUN: stamp(), "host": socket.gethostname(), "pid": os.getpid()}))
    by: Document = {}
    try:
        yield
    except KeyboardInterrupt:
        by = {BY: signal.Signals(Ended.number).name}
        raise
    finally:
        with suppress(RunError):  # an error of the block is raised, not the error of this line
            store.append(FILE, json_line({ENDED: stamp(), **by}))


def sittings(store: Store) -> list[tuple[datetime, datetime | None]]:
    """Return start and end of each sitting; the end is None if the process was killed or still works.

    Raises:
        RunError: the file cannot be read.
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


@dataclass(frozen=True)
class Stopped:
    """How the last process that trained a run was stopped.

    Attributes:
        by: the name of the signal; empty where the process was killed, or its machine was lost.
        host: the name of its machine; empty where it is not known.
        at: the time of the signal; None where the process left no last line.
    """

    by: str
    host: str
    at: datetime | None

    def plain(self) -> Document:
        """Return the facts as plain data."""
        return {"by": self.by or None, "host": self.host, "at": None if self.at is None else self.at.isoformat()}

    def sentence(self, last: datetime, open_: str) -> str:
        """Say what stopped the process.

        Args:
            last: when the run last wrote a record.
            open_: what was training, as the end of the sentence; empty where nothing was.
        """
        when = f"{(self.at or last).astimezone(UTC):%Y-%m-%d %H:%M} UTC{open_}"
        if self.by:
            return f"stopped by {self.by} at {when}"
        on = f" on {self.host}" if self.host else ""
        return f"the process{on} was killed, or its machine was lost, after {when}"


def stopped(store: Store) -> Stopped | None:
    """Return how the last process was stopped; None where it ended by itself, or no process is recorded.

    Of a process that still trains the run this is not known: it has no last line yet.

    Raises:
        RunError: the file cannot be read.
    """
    begun: Document | None = None
    found: Stopped | None = None
    for raw in store.lines(FILE):
        line = parsed_line(raw.decode(errors="replace")) or {}
        if BEGUN in line:
            begun, found = line, Stopped("", str(line.get("host", "")), None)
        elif ENDED in line and begun is not None:
            by = line.get(BY)
            known = isinstance(by, str) and by
            found = Stopped(str(by), str(begun.get("host", "")), moment(line[ENDED])) if known else None
    return found


@contextmanager
def locked(lock: Path, place: StoragePlace) -> Iterator[Callable[[], None]]:
    """Hold the lock of a run until the end of the block, and on a network file system a lease.

    Yields:
        A function that raises a `RunError` if another machine has taken the run over.

    Raises:
        InputError: another process of this machine, or of one that shares the folder, trains the run.
        RunError: the folder cannot be read or written.
    """
    # A process that shows the run holds the lock for an instant (`is_held`).
    file = FileLock(lock, timeout=0.5)
    try:
        file.acquire()
    except Timeout as error:
        raise InputError(
            f"{place}: another process trains this run; wait until that process ends (`tskd-tune status` shows"
            " its progress), or end that process"
        ) from error
    try:
        with leased(lock.parent) as check:
            yield check
    finally:
        file.release()


def is_held(lock: Path) -> bool | None:
    """Tell whether a process of this machine holds a lock; None if the file is missing or cannot be checked.

    The check holds the lock for an instant. A process that takes the lock in this instant has to try again.
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
        sittings: the number of sittings: the first, and one per resume and per extension.
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
        noted: the `sittings` of the run. Older versions recorded no sittings; the time of records before the first
            recorded sitting counts as one sitting.
        marks: the time of each record that the run wrote.
        now: the current time if a process works on the run, which is then the end of the last sitting; otherwise None.
    """
    ends = [end for _, end in noted if end is not None]
    signs = sorted([created, *(begin for begin, _ in noted), *ends, *marks])
    spans = list(noted)
    # Some times are whole seconds, so what was written within the first sitting's first second belongs to it.
    if not spans or any(created < sign < spans[0][0].replace(microsecond=0) for sign in signs):
        spans.insert(0, (created, None))
    bounds = [*(begin for begin, _ in spans[1:]), None]
    lengths = [_length(span, bound, signs) for span, bound in zip(spans, bounds, strict=True)]
    if now is not None:
        lengths[-1] = (now - spans[-1][0]).total_seconds()
    return Times(max(0.0, sum(lengths)), len(spans), signs[-1])


def _length(span: tuple[datetime, datetime | None], bound: datetime | None, signs: Sequence[datetime]) -> float:
    """Return the seconds of a sitting; without an end, it lasted until the last record before the next sitting."""
    begin, end = span
    before = (sign for sign in signs if sign >= begin and (bound is None or sign < bound))
    return ((end or max(before, default=begin)) - begin).total_seconds()


def marks(times: Iterable[object]) -> list[datetime]:
    """Return the times in ISO 8601; all other values are left out."""
    return [found for time in times if (found := moment(time)) is not None]
