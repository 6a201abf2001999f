"""The progress of a run, read only from the run's files, also while another process trains the run.

Nothing is written and no lock is taken. Lines that another process is writing now are left out until the next call.
The run's ``design.json`` says what the run trains, so this module does not import torch.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from tskd_tune.cli.reading.best_arm import Best, best_of
from tskd_tune.cli.reading.trial_status import STATES, State, Trial, epochs_left, seconds_left, trials_of
from tskd_tune.errors import InputError, TskdTuneError
from tskd_tune.outside import CodeError
from tskd_tune.records.entries import teaching
from tskd_tune.records.entries.conclusion import conclusion
from tskd_tune.records.entries.design import Design, read_design
from tskd_tune.records.entries.row import Row
from tskd_tune.records.entries.sittings import Stopped, stopped
from tskd_tune.records.entries.state import Begun
from tskd_tune.records.entries.teaching import Teaching
from tskd_tune.records.protocols.protocol import kept
from tskd_tune.records.runs.counted import added_trials, counted_by, edited, lacking, mistaken, unknown, unread
from tskd_tune.records.runs.life import life
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.records.storing.files import damaged_document


@dataclass(frozen=True)
class RunStatus:
    """The progress of a run.

    Attributes:
        run: the name of the run.
        kind: ``sweep`` or ``train``.
        trials: every trial that has files, by its id.
        expected: the number of trials of the whole run, if known.
        epochs_left: the epochs still to train, of all seeds together; None where unknown.
        at_most: whether a scheduler may end trials early, so ``epochs_left`` is an upper limit.
        best: the best arm so far; None before the first measured arm, and where nothing is selected.
        front: the arms on the Pareto front so far; empty where the search has one objective.
        teachers: the progress of each teacher of the run.
        running: whether a process trains the run now; None where unknown.
        elapsed: the seconds that processes trained the run, without the time between the processes.
        sittings: the number of processes that trained the run, one after the other.
        silent: seconds since the run's last record.
        left: a rough estimate of the seconds left; None where unknown.
        method: the search, the scheduler and what ends the sweep early; empty in runs of older versions.
        hours: the sweep's budget; None for none.
        concluded: why the sweep ended early, and how to go on; empty otherwise.
        stopped: how the last process was stopped; None where it ended by itself (see `interrupted`).
        last: when the run last wrote a record.
        edited: sentences on trainings that are missing or do not count because the sweep's file was edited.
        damage: a sentence for each damaged line or file, which is left out.
    """

    run: str
    kind: str
    trials: Sequence[Trial]
    expected: int | None
    epochs_left: int | None
    at_most: bool
    best: Best | None
    front: Sequence[str]
    teachers: Sequence[Teaching]
    running: bool | None
    elapsed: float
    sittings: int
    silent: float
    left: float | None
    damage: Sequence[str]
    method: str = ""
    hours: float | None = None
    concluded: str = ""
    stopped: Stopped | None = None
    last: datetime | None = None
    edited: Sequence[str] = ()

    @property
    def broke(self) -> int:
        """The number of trials that broke."""
        return sum(trial.broke for trial in self.trials)

    def counts(self) -> dict[State, int | None]:
        """Return the number of trials in each state. ``waiting`` is None where the number of all trials is unknown."""
        states = [trial.state for trial in self.trials]
        counted: dict[State, int | None] = {state: states.count(state) for state in STATES}
        counted["waiting"] = (
            None if self.expected is None else max(0, self.expected - len(states)) + states.count("waiting")
        )
        return counted

    @property
    def epochs(self) -> int:
        """The number of epochs trained, of all trials and seeds together."""
        return sum(trial.epochs for trial in self.trials)

    @property
    def finished(self) -> bool:
        """Whether every trial has ended, well or not. A trial that broke has not ended: a resume trains it again."""
        ended = sum(trial.state in ("done", "failed", "stopped") and trial.ended for trial in self.trials)
        return self.expected is not None and ended >= self.expected

    @property
    def open(self) -> int:
        """The number of trials that have begun and have not ended."""
        return sum(trial.state == "running" for trial in self.trials)

    @property
    def interrupted(self) -> Stopped | None:
        """How the last process was stopped, if trainings are left and no process trains the run now."""
        return self.stopped if self.running is False and not self.finished and not self.concluded else None

    @property
    def ended(self) -> bool:
        """Whether every trial has ended, or no process trains the run any more."""
        return self.finished or self.running is False

    def plain(self) -> dict[str, object]:
        """Return the object that ``status --json`` prints; unknown numbers are null."""
        counts = {str(state): number for state, number in self.counts().items()}
        return {
            "run": self.run,
            "kind": self.kind,
            "finished": self.finished,
            "running": self.running,
            "teachers": [teacher.plain() for teacher in self.teachers],
            "trials": {"expected": self.expected, **counts, "broke": self.broke},
            "epochs": {"trained": self.epochs, "left": self.epochs_left},
            "best": None if self.best is None else self.best.plain(),
            "front": list(self.front),
            "seconds": {
                "elapsed": self.elapsed,
                "sittings": self.sittings,
                "silent": self.silent,
                "left_roughly": self.left,
                "left_is_at_most": self.at_most,
            },
            "failures": [asdict(trial) for trial in self.trials if trial.state == "failed"],
            "each": [asdict(trial) for trial in self.trials],
            "method": self.method,
            "budget": {"hours": self.hours, "used": self.elapsed / 3600},
            "concluded": self.concluded,
            "interrupted": None if self.interrupted is None else {**self.interrupted.plain(), "training": self.open},
            "edited": list(self.edited),
            "damage": list(self.damage),
        }


def run_status(folder: RunFolder, now: datetime | None = None) -> RunStatus:
    """Read the progress of a run.

    Raises:
        RunError: a file of the run cannot be read.
    """
    now = now or datetime.now(UTC)
    design, damage = _design(folder)
    all_rows, added = _rows(folder), added_trials(folder)
    design, whole, wrong = _edited(folder, design)
    rows, begun = counted_by(design, all_rows), folder.begun()
    gone = _removed(all_rows, rows, begun, design)
    histories = {run: folder.history(run) for run in folder.trials() if run not in gone}
    begun = {run: of for run, of in begun.items() if run not in gone}
    trials = trials_of(rows, histories, begun, design)
    of_state = None if folder.state.expected is None else -(-folder.state.expected // design.seeds) + added
    expected = of_state if whole is None else whole
    waiting = sum(trial.state == "waiting" for trial in trials)
    waiting += max(0, expected - len(trials)) if expected is not None else 0
    left = epochs_left(trials, waiting, design) if expected is not None else None
    told = teaching.lines(folder.store)
    lived = life(folder, rows, histories, told, now)
    return RunStatus(
        run=folder.name,
        kind=folder.state.kind,
        trials=trials,
        expected=expected,
        epochs_left=left,
        at_most=design.at_most,
        best=best_of(rows, design),
        front=_front(folder) if design.objectives else (),
        teachers=teaching.teachings(told),
        running=lived.running,
        elapsed=lived.times.worked,
        sittings=lived.times.sittings,
        silent=max(0.0, (now - lived.times.last).total_seconds()),
        left=seconds_left(left, trials, histories, begun),
        damage=[*damage, *wrong, *_protocol(folder), *folder.damage()],
        method=design.method,
        hours=design.hours,
        stopped=stopped(folder.store),
        last=lived.times.last,
        edited=[*_lacking(folder, rows, whole), *edited(folder, all_rows, added, design)],
        concluded=found.sentence if (found := conclusion(folder.store)) is not None else "",
    )


def _edited(folder: RunFolder, design: Design) -> tuple[Design, int | None, list[str]]:
    """Return what a run trains by its file, which may have been edited since it was trained last.

    Returns:
        The design; the number of trainings where the file was edited, otherwise None; a sentence on a mistake there.
    """
    if not unread(folder):
        return design, None, []
    from tskd_tune.cli.reading.edited_design import edited_design  # imports torch, which only edited files need

    try:
        found = edited_design(folder)
    except CodeError as error:
        return design, None, [unknown(folder, error)]
    except InputError as error:
        return design, None, [mistaken(folder, error)]
    return (design, None, []) if found is None else (*found, [])


def _lacking(folder: RunFolder, rows: Sequence[Row], expected: int | None) -> list[str]:
    """Say how many trainings of an edited file have not ended."""
    missing = 0 if expected is None else expected - sum(row.ended for row in rows)
    return [lacking(folder, missing, expected)] if expected is not None and missing > 0 else []


def _removed(rows: Sequence[Row], kept: Sequence[Row], begun: Mapping[str, Begun], design: Design) -> set[str]:
    """Return the trials that train nothing but arms or seeds that the file of the run no longer names."""
    named = {run for run, of in begun.items() if any(design.names(of.arm, of.identity, seed) for seed in of.seeds)}
    return ({row.run for row in rows} | begun.keys()) - {row.run for row in kept} - named


def _design(folder: RunFolder) -> tuple[Design, list[str]]:
    """Return the design of a run, and a sentence where the run's document cannot be read."""
    found = read_design(folder.path)
    try:
        if found is not None:
            folder.document()
            return found, []
        from tskd_tune.cli.reading.old_design import old_design  # imports torch, which only runs of older versions need

        return old_design(folder), []
    except TskdTuneError as error:
        return found or Design(), [damaged_document(folder.place, error)]


def _protocol(folder: RunFolder) -> list[str]:
    """Return a sentence where the frozen protocol is not as the run wrote it."""
    found = kept(folder)
    return (
        [f"{found.damage}; what was declared at the start is not known for certain"]
        if found is not None and found.damage
        else []
    )


def _rows(folder: RunFolder) -> list[Row]:
    """Return the rows without warnings; `RunFolder.damage` reports an incomplete line instead."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return folder.rows()


def _front(folder: RunFolder) -> list[str]:
    # This import loads the statistics. A search with a single objective does not need the statistics.
    from tskd_tune.reports.findings.summary import summary

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fronts = summary(folder).pareto
    return list(fronts[0].front) if fronts else []
