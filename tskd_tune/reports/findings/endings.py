"""How the trainings of a run ended: how many ended, which failed or were stopped, and which have not ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tskd_tune.records.entries.design import Design, read_design
from tskd_tune.records.entries.row import Row, Status
from tskd_tune.records.runs.counted import added_trials, counted
from tskd_tune.records.runs.run_folder import RunFolder


@dataclass(frozen=True)
class Counts:
    """How many runs there are.

    Attributes:
        expected: the runs of the whole sweep; None where the number is not known.
        finished: the runs that have ended: ``done``, ``failed`` and ``stopped``.
        broke: the runs that ended with an error; a resume trains them again.
        unfinished: the runs that have begun and have no row, or were stopped at the end of the sweep's budget.
        not_begun: the runs that have not begun; None where the number of all runs is not known.
    """

    expected: int | None
    finished: int
    done: int
    failed: int
    stopped: int
    broke: int
    unfinished: int
    not_begun: int | None

    @classmethod
    def over(cls, rows: Sequence[Row], expected: int | None, begun: int) -> Counts:
        """Count the rows, and the ``begun`` runs that have no row."""
        ended = [row.status for row in rows if row.ended]
        return cls(
            expected=expected,
            finished=len(ended),
            done=ended.count("done"),
            failed=ended.count("failed"),
            stopped=ended.count("stopped"),
            broke=sum(row.broke for row in rows),
            unfinished=begun + sum(row.cut for row in rows),
            not_begun=None if expected is None else max(0, expected - len(rows) - begun),
        )

    @property
    def all_finished(self) -> bool:
        """Whether every run has ended, as far as the number of runs is known."""
        return self.expected is None or self.finished >= self.expected

    @property
    def of_expected(self) -> str:
        """Return how many runs have ended: ``12 of 18 runs``."""
        of = f" of {self.expected}" if self.expected is not None else ""
        return f"{self.finished}{of} {'run' if (self.expected or self.finished) == 1 else 'runs'}"

    @property
    def sentence(self) -> str:
        """Return how many runs finished, failed, were stopped, have not ended or have not begun."""
        told = [f"{number} {what}" for what, number in (("failed", self.failed), ("stopped", self.stopped)) if number]
        open_ = (("broke", self.broke), ("unfinished", self.unfinished))
        others = [f"{number} {what}" for what, number in open_ if number]
        if others and self.not_begun:
            others.append(f"{self.not_begun} not begun")
        ended = f"{self.of_expected} finished" + (f", {' and '.join(told)}" if told else "")
        return "; ".join([ended, ", ".join(others)]) if others else ended


@dataclass(frozen=True)
class Ending:
    """The seeds of a trial that failed or were stopped for the same reason and after the same number of epochs.

    ``errors`` are the files with the full error messages of the trainings that broke.
    """

    run: str
    arm: str
    epochs: int
    epochs_planned: int
    reason: str
    broke: bool
    seeds: tuple[int, ...]
    errors: tuple[str, ...]


def endings(rows: Sequence[Row], status: Status) -> tuple[Ending, ...]:
    """Gather the runs that ended with a status."""
    found: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        if row.status == status:
            key = (row.run, row.arm, row.epochs, row.epochs_planned, row.reason, row.broke)
            found.setdefault(key, []).append(row)
    return tuple(map(_ending, found.values()))


def _ending(rows: Sequence[Row]) -> Ending:
    first = rows[0]
    return Ending(
        run=first.run,
        arm=first.arm,
        epochs=first.epochs,
        epochs_planned=first.epochs_planned,
        reason=first.reason or "no reason was given",
        broke=first.broke,
        seeds=tuple(row.seed for row in rows),
        errors=tuple(row.error for row in rows if row.error),
    )


@dataclass(frozen=True)
class Unfinished:
    """A training that has begun and has no row: the training runs now, or was interrupted.

    ``arm`` and ``epochs_planned`` are None where an older version did not record them.
    """

    run: str
    seed: int
    epochs: int
    arm: str | None
    epochs_planned: int | None


def counts_of(run: RunFolder, rows: Sequence[Row], seeds: int) -> tuple[Counts, tuple[Unfinished, ...]]:
    """Count the trainings of a run, without those of arms that its file no longer names; and return the unfinished.

    Trials that were added to the file of a search are missing.

    Args:
        run: the run.
        rows: its rows.
        seeds: the seeds of each trial of a search.
    """
    open_, expected = unfinished(run, rows), run.state.expected
    whole = None if expected is None else expected + seeds * added_trials(run)
    return Counts.over(counted(run, rows), whole, len(open_)), open_


def unfinished(run: RunFolder, rows: Sequence[Row]) -> tuple[Unfinished, ...]:
    """Return the trainings that have begun and have no row."""
    ended, begun, design = {row.key for row in rows}, run.begun(), read_design(run.path) or Design()
    found = []
    for trial in run.trials():
        known = begun.get(trial)
        if known and all((trial, seed) in ended for seed in known.seeds):
            continue  # so that the histories of a large run are not read for nothing
        trained = Counter(line.seed for line in run.history(trial))
        for seed in known.seeds if known else sorted(trained):
            arm, planned = (known.arm, known.epochs) if known else (None, None)
            named = known is None or design.names(arm, known.identity, seed)
            if (trial, seed) not in ended and named:
                found.append(Unfinished(trial, seed, trained[seed], arm, planned))
    return tuple(found)
