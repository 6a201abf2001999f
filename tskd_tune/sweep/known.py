"""What an earlier process of a run has left of its trials, read from the run's own records.

Ray Tune's own files are never read: Ray pickles them, they lag behind, and they may be damaged. Rows say which
trainings have ended, ``trial.json`` says what a trial was to train, and a trial finds its checkpoints in its folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tskd_tune.plain import Document
from tskd_tune.records.row import Row
from tskd_tune.records.run_folder import RunFolder
from tskd_tune.sweep.objectives import means


@dataclass(frozen=True)
class Known:
    """A trial that began.

    Attributes:
        point: hole -> sampled value.
        results: what it reported, an epoch each, as means over its seeds.
        end: its last result, with its rows; None where it has not ended, so that it is to be trained (on).
    """

    point: Document
    results: Sequence[Document] = field(default_factory=list)
    end: Document | None = None


def known_trials(folder: RunFolder, seeds: Sequence[int]) -> dict[int, Known]:
    """Return the trials of a search that began, by their numbers.

    Args:
        folder: the run's folder.
        seeds: the seeds of each trial.
    """
    points = {run: begun.point for run, begun in folder.begun().items()}
    rows: dict[str, list[Row]] = {}
    for row in folder.rows():
        rows.setdefault(row.run, []).append(row)
    points |= {run: of[0].point for run, of in rows.items()}
    return {
        int(run): _known(folder, run, point, rows.get(run, []), seeds)
        for run, point in points.items()
        if run.isdecimal()
    }


def numbers(folder: RunFolder) -> dict[tuple[str, int], int]:
    """Return the number of the trial that began to train a seed of an arm, whose folder it goes on in."""
    found: dict[tuple[str, int], str] = {}
    for run, begun in folder.begun().items():
        found |= {(begun.arm, seed): run for seed in begun.seeds}
    found |= {(row.arm, row.seed): row.run for row in folder.rows()}
    return {training: int(run) for training, run in found.items() if run.isdecimal()}


def _known(folder: RunFolder, run: str, point: Document, rows: Sequence[Row], seeds: Sequence[int]) -> Known:
    ended = [row for row in rows if row.ended]
    results = _results(folder.history(run), len(seeds))
    return Known(point, results, None if {row.seed for row in ended} < set(seeds) else _end(ended))


def _results(history: Sequence[Document], seeds: int) -> list[Document]:
    """Return the means of each epoch that every seed of a trial has trained."""
    epochs: dict[int, list[Document]] = {}
    for line in history:
        epochs.setdefault(line["epoch"], []).append(line)
    whole = {epoch: lines for epoch, lines in epochs.items() if len(lines) == seeds}
    return [{"epoch": epoch, **means(lines)} for epoch, lines in sorted(whole.items())]


def _end(rows: Sequence[Row]) -> Document:
    """Return a trial's last result out of its rows, as the trial reported it."""
    failed = next((row.reason for row in rows if row.status == "failed"), None)
    return {
        **means([row.metrics for row in rows]),
        "epoch": max(row.epochs for row in rows) - 1,
        "epochs": rows[0].epochs_planned,
        "rows": [row.plain() for row in rows],
        **({"failed": failed or "failed"} if any(row.status == "failed" for row in rows) else {}),
    }
