"""The progress of a run's trials, and the number of epochs and seconds left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final, Literal, TypeAlias

from tskd_tune.records.entries.design import Design
from tskd_tune.records.entries.row import Row
from tskd_tune.records.entries.state import Begun
from tskd_tune.records.storing.lines import HistoryLine

State = Literal["waiting", "running", "done", "failed", "stopped"]
STATES: Final[tuple[State, ...]] = ("waiting", "running", "done", "failed", "stopped")
History: TypeAlias = Sequence[HistoryLine]
"""The lines of a trial's history, an epoch of a seed each."""


@dataclass(frozen=True)
class Trial:
    """One trial that has files: a point of the space with the seeds that train in lockstep, often only one seed.

    Attributes:
        run: the id of the trial.
        state: ``running`` where the trial has neither ended nor broken. A large `RunStatus.silent` is a sign that no
            process runs the trial any more.
        arm: the label of the trial's point; None where no file has the label yet.
        seeds: the known seeds of the trial.
        epochs: the epochs trained, of all seeds together.
        planned: the epochs to train, of all seeds together; None where no file has the number yet.
        reason: why the trial failed or was stopped.
        broke: whether the trial failed because it broke; a resume trains it again.
        error: the file with the full error message, relative to the run's folder.
        host: the host name of the machine that ended the trial; empty while the trial runs, and in older rows.
    """

    run: str
    state: State
    arm: str | None
    seeds: tuple[int, ...]
    epochs: int
    planned: int | None
    reason: str | None = None
    broke: bool = False
    error: str | None = None
    host: str = ""
    cut: bool = False

    @property
    def ended(self) -> bool:
        """Whether a resume would not train the trial further."""
        return not self.broke and not self.cut

    def line(self, word: str | None = None) -> str:
        """Return a readable line; ``word`` replaces the name of the state."""
        seeds = f"seed{'s' if len(self.seeds) > 1 else ''} {', '.join(map(str, self.seeds))}" if self.seeds else ""
        who = ", ".join(part for part in (self.arm, seeds) if part)
        of = "" if self.planned is None else f" of {self.planned}"
        reason = f": {self.reason}" if self.reason else ""
        how = "broke" if self.broke else word or self.state
        more = f" (the whole error: {self.error})" if self.error else ""
        on = f" on {self.host}" if self.host else ""
        return f"{self.run}: {who} {how}, {self.epochs}{of} epochs{on}{reason}{more}"


def trials_of(
    rows: Sequence[Row], histories: Mapping[str, History], begun: Mapping[str, Begun], design: Design
) -> list[Trial]:
    """Return every trial that has files, by its id.

    Args:
        rows: the rows of the run.
        histories: trial -> its history.
        begun: trial -> its arm, seeds and epochs, for the trials that have begun.
        design: the design of the run, which says what the run trains.
    """
    ended: dict[str, list[Row]] = {}
    for row in rows:
        ended.setdefault(row.run, []).append(row)
    return [
        _ended(run, ended[run]) if run in ended else _open(design, run, histories.get(run, ()), begun.get(run))
        for run in sorted(histories.keys() | ended.keys() | begun.keys())
    ]


def _ended(run: str, rows: Sequence[Row]) -> Trial:
    """Return the status of a trial with rows. The trial failed if one of its seeds failed."""
    worst = next((row for status in ("failed", "stopped") for row in rows if row.status == status), rows[0])
    return Trial(
        run=run,
        state=worst.status,
        arm=worst.arm,
        seeds=tuple(sorted(row.seed for row in rows)),
        epochs=sum(row.epochs for row in rows),
        planned=sum(row.epochs_planned for row in rows),
        reason=worst.reason,
        broke=any(row.broke for row in rows),
        error=worst.error,
        host=worst.cost.host,
        cut=any(row.cut for row in rows),
    )


def _open(design: Design, run: str, history: History, begun: Begun | None) -> Trial:
    """Return the status of a trial without a row: the trial runs or was interrupted; ``begun`` has its seeds."""
    lengths = {line.seed: line.epoch + 1 for line in history}
    seeds = tuple(begun.seeds) if begun else tuple(sorted(lengths))
    length = (begun.epochs if begun else None) or design.epochs
    return Trial(
        run=run,
        state="running" if history or begun else "waiting",
        arm=begun.arm if begun else None,
        seeds=seeds,
        epochs=sum(lengths.values()),
        planned=None if length is None else length * max(len(seeds), design.seeds),
    )


def epochs_left(trials: Sequence[Trial], waiting: int, design: Design) -> int | None:
    """Return the number of epochs left. Without a known length, a waiting trial counts as the mean of the others."""
    running = [trial for trial in trials if trial.state == "running" or trial.broke or trial.cut]
    known = [trial.planned for trial in trials if trial.planned is not None]
    if any(trial.planned is None for trial in running):
        return None
    left = sum(max(0, (trial.planned or 0) - trial.epochs) for trial in running)
    if not waiting:
        return left
    if design.epochs is not None:
        return left + waiting * design.epochs * design.seeds
    return left + round(waiting * fmean(known)) if known else None


def seconds_left(
    epochs: int | None, trials: Sequence[Trial], histories: Mapping[str, History], begun: Mapping[str, Begun]
) -> float | None:
    """Estimate the time left: epochs left, times the mean seconds per epoch, divided by the number of processes.

    The trainings of one process take turns, so the seeds of a trial and the trials of a bundle do not divide the time
    further.
    """
    seconds = [
        trained + (line.number("eval_seconds") or 0.0)
        for lines in histories.values()
        for line in lines
        if (trained := line.number("seconds")) is not None
    ]
    if epochs == 0:
        return 0.0
    if not seconds or epochs is None:
        return None
    running = [trial.run for trial in trials if trial.state == "running"]
    processes = {begun[run].bundle or run if run in begun else run for run in running}
    return epochs * fmean(seconds) / max(1, len(processes))
