"""How far a run is, read off its files alone, so that it can be told while another process trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import fmean
from typing import Any

from tskd_tune.experiment import Experiment
from tskd_tune.records.results import Row, RunFolder
from tskd_tune.reports import tables
from tskd_tune.sweep.schema import Sweep


@dataclass(frozen=True)
class Training:
    """One seed of one trial.

    Attributes:
        epochs: epochs trained, of ``planned``; None where arms differ in length and it has no row yet.
        status: that of its row, or ``unfinished``.
    """

    run: str
    seed: int
    epochs: int
    planned: int | None
    status: str
    arm: str | None = None
    reason: str | None = None

    def line(self) -> str:
        """Return a line for people."""
        arm = f" {self.arm}," if self.arm else ""
        of = "" if self.planned is None else f" of {self.planned}"
        last = f"last epoch {self.epochs - 1}{of and f' ({self.epochs}{of} epochs)'}" if self.epochs else "no epoch yet"
        return f"{self.run}:{arm} seed {self.seed}, {self.status}, {last}" + (f": {self.reason}" if self.reason else "")


@dataclass(frozen=True)
class Standing:
    """How far a run is.

    Attributes:
        found: the summary of its rows.
        trainings: every training that left something.
        elapsed: seconds from its creation to its last sign of life.
        silent: seconds since that sign.
        left: a rough guess of the seconds left; None where nothing tells.
    """

    found: tables.Summary
    trainings: Sequence[Training]
    elapsed: float
    silent: float
    left: float | None

    @property
    def finished(self) -> bool:
        """Whether every expected training has its row."""
        counts = self.found["runs"]
        return counts["expected"] is not None and counts["finished"] >= counts["expected"]

    def best(self) -> tuple[str, str] | None:
        """Return the arm with the best mean of the validation metric so far, and that mean in words."""
        search = self.found["search"] or {"metric": "val_top1", "mode": "max"}
        metric, sign = search["metric"], 1 if search["mode"] == "max" else -1
        known = [arm for arm in self.found["arms"] if arm["metrics"].get(metric, {}).get("mean") is not None]
        if not known:
            return None
        best = max(known, key=lambda arm: sign * arm["metrics"][metric]["mean"])
        return best["arm"], f"{tables.metric_title(metric)} {tables.spread(best['metrics'][metric])}"


def standing(folder: RunFolder, now: datetime | None = None) -> Standing:
    """Read how far a run is.

    Raises:
        RunError: a file of the run cannot be read.
    """
    now = now or datetime.now(UTC)
    histories = {run: folder.history(run) for run in folder.trials()}
    planned = _planned(folder)
    trainings = _trainings(folder.rows(), histories, planned)
    last = _last_sign(folder)
    created = datetime.fromisoformat(folder.state.created)
    return Standing(
        found=tables.summary(folder),
        trainings=trainings,
        elapsed=max(0.0, (last - created).total_seconds()),
        silent=max(0.0, (now - last).total_seconds()),
        left=_left(trainings, histories, folder.state.expected, planned),
    )


def _planned(folder: RunFolder) -> int | None:
    """Return the epochs of a training, where all have as many."""
    document = folder.document()
    if folder.state.kind == "train":
        return Experiment.read(document).training.epochs
    sweep = Sweep.read(document)
    lengths = {sweep.experiment_at(point).training.epochs for point in sweep.space().corners()}
    return lengths.pop() if len(lengths) == 1 else None


def _trainings(
    rows: Sequence[Row], histories: Mapping[str, Sequence[Mapping[str, Any]]], planned: int | None
) -> list[Training]:
    over = {
        row.key: Training(row.run, row.seed, row.epochs, row.epochs_planned, row.status, row.arm, row.reason)
        for row in rows
    }
    under_way = {}
    for run, lines in histories.items():
        for line in lines:
            key = run, line["seed"]
            under_way[key] = Training(run, line["seed"], line["epoch"] + 1, planned, "unfinished")
    return [*over.values(), *(training for key, training in under_way.items() if key not in over)]


def _last_sign(folder: RunFolder) -> datetime:
    """Return when the run last wrote a record."""
    paths = [folder.path / "state.json", folder.rows_path, *map(folder.history_path, folder.trials())]
    return datetime.fromtimestamp(max(path.stat().st_mtime for path in paths if path.exists()), UTC)


def _left(
    trainings: Sequence[Training],
    histories: Mapping[str, Sequence[Mapping[str, Any]]],
    expected: int | None,
    planned: int | None,
) -> float | None:
    """Guess the time left: the epochs left at the mean cost of an epoch, shared by the trainings under way."""
    seconds = [
        line["seconds"] + line.get("eval_seconds", 0.0)
        for lines in histories.values()
        for line in lines
        if line.get("seconds") is not None
    ]
    open_ones = [training for training in trainings if training.status == "unfinished"]
    if not seconds or expected is None or planned is None:
        return None
    over = len(trainings) - len(open_ones)
    left = (expected - over) * planned - sum(training.epochs for training in open_ones)
    return max(0, left) * fmean(seconds) / max(1, len(open_ones))
