"""Whether a process trains a run now, and how long processes trained it, from records and never from file times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from tskd_tune.records.entries.row import Row
from tskd_tune.records.entries.sittings import Times, marks, moment, sittings, times
from tskd_tune.records.entries.teaching import Told
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.records.storing.lines import HistoryLine

History = Sequence[HistoryLine]


@dataclass(frozen=True)
class Life:
    """The times of a run, and whether a process trains the run now; None where this is unknown."""

    times: Times
    running: bool | None


def life(
    folder: RunFolder,
    rows: Sequence[Row],
    histories: Mapping[str, History],
    teachers: Sequence[Told],
    now: datetime,
) -> Life:
    """Return the times of a run from its records.

    Args:
        folder: the run.
        rows: the run's rows.
        histories: the lines of each trial.
        teachers: the lines of `teaching.lines`.
        now: the current time.

    Raises:
        RunError: a record cannot be read.
    """
    created = moment(folder.state.created) or now
    noted = sittings(folder.store)
    held = folder.is_trained()
    written = marks(line.time for lines in histories.values() for line in lines)
    written += marks(line.time for line in teachers)
    written += marks(time for row in rows for time in (row.started, row.finished))
    if not noted:
        written += _untimed(created, histories)
    found = times(created, noted, written, now if held else None)
    # An older version may train its runs without a lock.
    return Life(found, held if held or noted else None)


def _untimed(created: datetime, histories: Mapping[str, History]) -> list[datetime]:
    """Return for each history without times, from older versions, the earliest time at which it can have ended."""
    untimed = [lines for lines in histories.values() if lines and not marks(line.time for line in lines)]
    return [created + timedelta(seconds=sum(map(_seconds, lines))) for lines in untimed]


def _seconds(line: HistoryLine) -> float:
    return (line.number("seconds") or 0.0) + (line.number("eval_seconds") or 0.0)
