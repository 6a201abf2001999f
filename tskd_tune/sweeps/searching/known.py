"""Reads which trials an earlier process of a run has trained, from the run's own records.

Ray Tune's own files are never read: they are pickles, they may be older than the records, and they may be damaged. Rows
say which trainings have ended, ``trial.json`` says what a trial trains, and the trial's folder has its checkpoints.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tskd_tune.errors import InputError
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.identity import identity
from tskd_tune.records.entries.row import Row
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.records.storing.lines import HistoryLine
from tskd_tune.sweeps.messages.results import EpochMeans, TrialResult
from tskd_tune.sweeps.searching.objectives import means


@dataclass(frozen=True)
class Known:
    """A trial that began.

    Attributes:
        point: search parameter -> sampled value.
        results: the results of the trial, one per epoch, as means over its seeds.
        end: the last result of the trial, with its rows; None if the trial has not ended and must be trained further.
    """

    point: Mapping[str, object]
    results: Sequence[EpochMeans] = ()
    end: TrialResult | None = None


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


@dataclass(frozen=True)
class Training:
    """A training of a run's records.

    Attributes:
        identity: the digest of its experiment; empty in records of format 1.
        experiment: as plain data.
        number: the number of its trial, whose folder has its checkpoints; None for the trial of another kind of run.
        ended: whether it needs no more training.
    """

    identity: str
    arm: str
    seed: int
    experiment: Mapping[str, object]
    number: int | None
    ended: bool = False


class Trainings:
    """The trainings of a grid that began, found by their experiments, even if the labels of arms were changed."""

    def __init__(self, folder: RunFolder, arms: Collection[str]) -> None:
        """Read the records of a run; ``arms`` are the labels of its arms now."""
        self._found: dict[tuple[str, str, int], Training] = {}
        for training in _trainings(folder):
            identity, arm, seed = training.identity, training.arm, training.seed
            names = [(identity, arm), ("", arm)] + ([(identity, "")] if identity and arm not in arms else [])
            self._found |= {(*name, seed): training for name in names}

    def find(self, identity: str, arm: str, seed: int) -> Training | None:
        """Return the training of an experiment, also if its arm had another label; None if the training never began.

        Two arms may train the same experiment; each has its own trainings.
        """
        found = self._found.get((identity, arm, seed)) or self._found.get((identity, "", seed))
        return found or self._by_arm(identity, arm, seed)

    def _by_arm(self, identity: str, arm: str, seed: int) -> Training | None:
        """Return an arm's training from records of an older version with other digests, if its experiment is equal."""
        found = self._found.get(("", arm, seed))
        if found is None or not found.identity:
            return found
        return found if digest_of(found.experiment) == identity.partition("-")[0] else None


def _trainings(folder: RunFolder) -> Iterator[Training]:
    for run, begun in folder.begun().items():
        for seed in begun.seeds:
            yield Training(begun.identity, begun.arm, seed, begun.experiment, _number(run))
    for row in folder.rows():
        yield Training(row.identity, row.arm, row.seed, row.experiment, _number(row.run), row.ended)


def _number(run: str) -> int | None:
    return int(run) if run.isdecimal() else None


def digest_of(experiment: Mapping[str, object]) -> str:
    """Return the identity of an experiment as plain data; an empty word if this version cannot read the experiment."""
    try:
        return identity(Experiment.read(experiment))
    except InputError:  # a record of a version with options that were removed
        return ""


def _known(
    folder: RunFolder, run: str, point: Mapping[str, object], rows: Sequence[Row], seeds: Sequence[int]
) -> Known:
    ended = [row for row in rows if row.ended]
    results = _results(folder.history(run), len(seeds))
    return Known(point, results, None if {row.seed for row in ended} < set(seeds) else _end(ended))


def _results(history: Sequence[HistoryLine], seeds: int) -> list[EpochMeans]:
    """Return the means of each epoch that every seed of a trial has trained."""
    epochs: dict[int, list[HistoryLine]] = {}
    for line in history:
        epochs.setdefault(line.epoch, []).append(line)
    whole = {epoch: lines for epoch, lines in sorted(epochs.items()) if len(lines) == seeds}
    return [
        EpochMeans(
            epoch,
            means([line.numbers for line in lines]),
            [{**line.numbers, "seed": line.seed, "epoch": epoch} for line in lines],
        )
        for epoch, lines in whole.items()
    ]


def _end(rows: Sequence[Row]) -> TrialResult:
    """Return a trial's last result, rebuilt from its rows."""
    failed = next((row.reason or "failed" for row in rows if row.status == "failed"), None)
    return TrialResult(
        epoch=max(row.epochs for row in rows) - 1,
        epochs=rows[0].epochs_planned,
        rows=[row.plain() for row in rows],
        numbers=means([row.metrics for row in rows]),
        done=True,
        failed=failed,
    )
