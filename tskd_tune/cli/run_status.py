"""How far a run is, read off its files alone, so that it can be told while another process trains.

Nothing is written and no lock is taken. Lines that another process is just writing are left out; the next look has
them.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from statistics import fmean
from typing import Any, Final, Literal

from tskd_tune.cli.life import life
from tskd_tune.errors import TskdTuneError
from tskd_tune.experiment import Experiment
from tskd_tune.metrics import Metric, heading, metric_of
from tskd_tune.records import teaching
from tskd_tune.records.row import Row, declared
from tskd_tune.records.run_folder import RunFolder, damaged_document
from tskd_tune.records.state import Begun
from tskd_tune.records.teaching import Teaching
from tskd_tune.reports.findings.records import values_by_seed
from tskd_tune.reports.findings.scale import cut, is_beyond
from tskd_tune.reports.judge import statistics
from tskd_tune.sweep.schedulers import stops_trials
from tskd_tune.sweep.schema import Sweep

State = Literal["waiting", "running", "done", "failed", "stopped"]
STATES: Final[tuple[State, ...]] = ("waiting", "running", "done", "failed", "stopped")
History = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Trial:
    """One trial that left something: a point of the space with the seeds that train in lockstep, often just one.

    Attributes:
        run: its id.
        state: ``running`` where it has neither ended nor broken; whether a process still runs it, `RunStatus.silent`
            hints at.
        arm: the label of its point; None where no file tells yet.
        seeds: its seeds, as far as they are known.
        epochs: epochs trained, those of its seeds together.
        planned: the epochs that its seeds are to train together; None where no file tells yet.
        reason: why it failed or was stopped.
        broke: whether it failed because it broke, so that a resume trains it again.
        error: the file with the whole error, relative to the run's folder.
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

    def line(self, word: str | None = None) -> str:
        """Return a line for people; ``word`` stands for the state."""
        seeds = f"seed{'s' if len(self.seeds) > 1 else ''} {', '.join(map(str, self.seeds))}" if self.seeds else ""
        who = ", ".join(part for part in (self.arm, seeds) if part)
        of = "" if self.planned is None else f" of {self.planned}"
        reason = f": {self.reason}" if self.reason else ""
        how = "broke" if self.broke else word or self.state
        more = f" (the whole error: {self.error})" if self.error else ""
        return f"{self.run}: {who} {how}, {self.epochs}{of} epochs{reason}{more}"


@dataclass(frozen=True)
class Best:
    """The arm with the best mean of the validation metric among the seeds that are done, of ``among`` arms."""

    arm: str
    metric: str
    among: int
    found: statistics.Arm
    measures: Sequence[Metric] = ()

    def plain(self) -> dict[str, Any]:
        """Return the facts as plain data, without what the metrics mean."""
        return {"arm": self.arm, "metric": self.metric, "among": self.among, "found": asdict(self.found)}

    def line(self) -> str:
        """Return ``at, val top-1 (%) 70.00, 95 % interval 69.10 to 70.90 (3 seeds)``."""
        return f"{self.arm}, {heading(self.metric, self.measures)} {self._text(self.found.mean)}{self._interval()}"

    def _text(self, value: float | None) -> str:
        return "unknown" if value is None else f"{value:.{metric_of(self.metric, self.measures).digits}f}"

    def _interval(self) -> str:
        interval = self.found.interval
        if interval is None:
            return f" ({self.found.note})"
        if not is_beyond(metric_of(self.metric, self.measures), interval):
            ends = f"{self._text(interval.low)} to {self._text(interval.high)}"
            return f", 95 % interval {ends} ({self.found.n} seeds)"
        low, high = map(self._text, cut(interval.low, interval.high))
        return f", 95 % interval {low} to {high}, cut at the end of the scale ({self.found.n} seeds)"


@dataclass(frozen=True)
class RunStatus:
    """How far a run is.

    Attributes:
        run: its name.
        kind: ``sweep`` or ``train``.
        trials: every trial that left something, by its id.
        expected: how many trials there will be, if that is known.
        epochs_left: epochs that are still to train, of all seeds together; None where nothing tells.
        at_most: whether a scheduler may end trials early, so that less is left than is said.
        best: the best arm so far; None before the first that was measured, and where there is nothing to choose.
        front: the arms on the Pareto front so far; empty where one objective is searched.
        teachers: how far each teacher is that was made ready for the run.
        running: whether a process trains it now; None where nothing tells.
        elapsed: seconds that processes worked on it, without the time between them.
        sittings: how many processes did so, one after the other.
        silent: seconds since its last record.
        left: a rough guess of the seconds left; None where nothing tells.
        damage: a sentence for each of its lines and files that is damaged and left out.
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

    @property
    def broke(self) -> int:
        """The number of trials that broke."""
        return sum(trial.broke for trial in self.trials)

    def counts(self) -> dict[State, int | None]:
        """Return the number of trials in each state; those waiting are None where nobody knows how many there are."""
        states = [trial.state for trial in self.trials]
        counted: dict[State, int | None] = {state: states.count(state) for state in STATES}
        counted["waiting"] = (
            None if self.expected is None else max(0, self.expected - len(states)) + states.count("waiting")
        )
        return counted

    @property
    def epochs(self) -> int:
        """Epochs trained, of all trials and seeds together."""
        return sum(trial.epochs for trial in self.trials)

    @property
    def finished(self) -> bool:
        """Whether every trial has ended, well or not; one that broke has not, as a resume trains it again."""
        ended = sum(trial.state in ("done", "failed", "stopped") and not trial.broke for trial in self.trials)
        return self.expected is not None and ended >= self.expected

    @property
    def ended(self) -> bool:
        """Whether nothing more is to come: every trial has ended, or no process trains the run any more."""
        return self.finished or self.running is False

    def plain(self) -> dict[str, Any]:
        """Return the object that ``status --json`` prints: numbers are null where nothing tells them."""
        return {
            "run": self.run,
            "kind": self.kind,
            "finished": self.finished,
            "running": self.running,
            "teachers": [teacher.plain() for teacher in self.teachers],
            "trials": {"expected": self.expected, **self.counts(), "broke": self.broke},
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
            "damage": list(self.damage),
        }


def run_status(folder: RunFolder, now: datetime | None = None) -> RunStatus:
    """Read how far a run is.

    Raises:
        RunError: a file of the run cannot be read.
    """
    now = now or datetime.now(UTC)
    design = _Design.read(folder)
    rows = _rows(folder)
    histories = {run: folder.history(run) for run in folder.trials()}
    trials = _trials(folder, design, rows, histories)
    expected = None if folder.state.expected is None else -(-folder.state.expected // design.seeds)
    waiting = sum(trial.state == "waiting" for trial in trials)
    waiting += max(0, expected - len(trials)) if expected is not None else 0
    epochs_left = _epochs_left(trials, waiting, design) if expected is not None else None
    told = teaching.lines(folder.store)
    lived = life(folder, rows, histories, told, now)
    return RunStatus(
        run=folder.name,
        kind=folder.state.kind,
        trials=trials,
        expected=expected,
        epochs_left=epochs_left,
        at_most=design.at_most,
        best=_best(rows, design) if folder.state.kind == "sweep" else None,
        front=_front(folder) if design.objectives else (),
        teachers=teaching.teachings(told),
        running=lived.running,
        elapsed=lived.times.worked,
        sittings=lived.times.sittings,
        silent=max(0.0, (now - lived.times.last).total_seconds()),
        left=_left(epochs_left, trials, histories),
        damage=[*design.damage, *folder.damage()],
    )


@dataclass(frozen=True)
class _Design:
    """What the resolved document says: seeds and epochs of a trial, the metric, and whether a scheduler stops trials.

    ``epochs`` is None where points differ in length, and where the document is damaged, as ``damage`` says.
    """

    seeds: int = 1
    epochs: int | None = None
    searched: bool = False
    metric: str = "val_top1"
    mode: str = "max"
    objectives: bool = False
    at_most: bool = False
    damage: tuple[str, ...] = ()

    @classmethod
    def read(cls, folder: RunFolder) -> _Design:
        try:
            return cls._of(folder)
        except TskdTuneError as error:
            return cls(damage=(damaged_document(folder, error),))

    @classmethod
    def _of(cls, folder: RunFolder) -> _Design:
        document = folder.document()
        if folder.state.kind == "train":
            return cls(epochs=Experiment.read(document).training.epochs)
        sweep = Sweep.read(document)
        lengths = {sweep.experiment_at(point).training.epochs for point in sweep.space().corners()}
        search = sweep.search
        return cls(
            seeds=len(sweep.all_seeds()) if sweep.is_judged else 1,
            epochs=lengths.pop() if len(lengths) == 1 else None,
            searched=not sweep.is_exact,
            metric=sweep.metric,
            mode=sweep.mode,
            objectives=search.objectives is not None,
            at_most=stops_trials(sweep.scheduler.name),
        )


def _rows(folder: RunFolder) -> list[Row]:
    """Return the rows; a line that is just being written is told by `RunFolder.damage` and not as a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return folder.rows()


def _front(folder: RunFolder) -> list[str]:
    # Loads the statistics, which a search with a single objective does not need.
    from tskd_tune.reports.findings.summary import summary

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fronts = summary(folder).pareto
    return list(fronts[0].front) if fronts else []


def _trials(folder: RunFolder, design: _Design, rows: Sequence[Row], histories: Mapping[str, History]) -> list[Trial]:
    begun = folder.begun()
    ended: dict[str, list[Row]] = {}
    for row in rows:
        ended.setdefault(row.run, []).append(row)
    return [
        _ended(run, ended[run]) if run in ended else _open(design, run, histories.get(run, ()), begun.get(run))
        for run in sorted(histories.keys() | ended.keys() | begun.keys())
    ]


def _ended(run: str, rows: Sequence[Row]) -> Trial:
    """Account for a trial with rows; it failed if a seed of it failed."""
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
    )


def _open(design: _Design, run: str, history: History, begun: Begun | None) -> Trial:
    """Account for a trial without a row: it runs, or was cut off; its folder says what it is to train."""
    lengths: dict[int, int] = {line["seed"]: line["epoch"] + 1 for line in history}
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


def _epochs_left(trials: Sequence[Trial], waiting: int, design: _Design) -> int | None:
    """Return the epochs that are still to train; those of trials that wait are as many as others have on average."""
    running = [trial for trial in trials if trial.state == "running" or trial.broke]
    known = [trial.planned for trial in trials if trial.planned is not None]
    if any(trial.planned is None for trial in running):
        return None
    left = sum(max(0, (trial.planned or 0) - trial.epochs) for trial in running)
    if not waiting:
        return left
    if design.epochs is not None:
        return left + waiting * design.epochs * design.seeds
    return left + round(waiting * fmean(known)) if known else None


def _left(epochs: int | None, trials: Sequence[Trial], histories: Mapping[str, History]) -> float | None:
    """Guess the time left: the epochs left at the mean cost of an epoch, shared by the trials that run now.

    The seeds of one trial train one after the other in one process, so they share nothing.
    """
    seconds = [
        line["seconds"] + (line.get("eval_seconds") or 0.0)
        for lines in histories.values()
        for line in lines
        if line.get("seconds") is not None
    ]
    if epochs == 0:
        return 0.0
    if not seconds or epochs is None:
        return None
    return epochs * fmean(seconds) / max(1, sum(trial.state == "running" for trial in trials))


def _best(rows: Sequence[Row], design: _Design) -> Best | None:
    """Return the best arm by the mean over its seeds that are done; never by the test part."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        value = row.metrics.get(design.metric)
        if row.status == "done" and value is not None:
            point = row.run if design.searched else json.dumps([row.arm, row.point], sort_keys=True)
            groups.setdefault(point, []).append(row)
    arms = [statistics.arm(values_by_seed(group, design.metric), name=group[0].arm) for group in groups.values()]
    if not arms:
        return None
    sign = 1 if design.mode == "max" else -1
    best = max(arms, key=lambda arm: sign * (arm.mean or 0.0))
    return Best(best.name, design.metric, len(arms), best, declared(rows))
