"""What a trial reports after each epoch, as a record; Ray Tune passes it on as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tskd_tune.plain import Document
from tskd_tune.records.entries.row import Row
from tskd_tune.training.record import Record


@dataclass(frozen=True)
class EpochMeans:
    """The numbers of an epoch of a trial.

    Attributes:
        numbers: name -> the mean over the trial's seeds.
        records: the numbers of each seed, with the keys ``seed`` and ``epoch``.
    """

    epoch: int
    numbers: Mapping[str, float]
    records: Sequence[Mapping[str, object]] = ()

    def plain(self) -> Document:
        """Return the epoch as a result for Ray Tune's searchers and schedulers; each of the numbers is a key."""
        return {"epoch": self.epoch, **self.numbers, "records": list(self.records)}


@dataclass(frozen=True)
class TrialResult:
    """The result of an epoch of a trial, or of several short ones.

    Attributes:
        epoch: the last epoch that was trained, from 0.
        epochs: the epochs of the whole training.
        rows: the row of each training of a trial that has ended, as plain data; `trainings` reads these rows.
        numbers: name -> mean over the seeds, for every number that was measured for each seed.
        records: the records of the epochs since the last report, of each seed; of a restored trial, all records.
        notes: sentences for the user.
        done: whether the trial has ended.
        failed: why a training diverged or broke; None if none did.
        broke: whether the trial broke, so that a resume trains it again.
        error: the whole error of a trial that broke.
    """

    epoch: int
    epochs: int
    rows: Sequence[Mapping[str, object]]
    numbers: Mapping[str, float] = field(default_factory=dict)
    records: Sequence[Record] = ()
    notes: Sequence[str] = ()
    done: bool = False
    failed: str | None = None
    broke: bool = False
    error: str = ""

    def plain(self) -> Document:
        """Return the result as plain data for Ray Tune, searchers and schedulers; each of the numbers is a key."""
        return {
            **self.numbers,
            "epoch": self.epoch,
            "epochs": self.epochs,
            "rows": list(self.rows),
            "records": [record.plain() for record in self.records],
            "notes": list(self.notes),
            "done": self.done,
            **({} if self.failed is None else {"failed": self.failed}),
            **({"broke": True, "errors": self.error} if self.broke else {}),
        }

    @classmethod
    def read(cls, result: Document) -> TrialResult:
        """Read a result of Ray Tune, without its numbers; absent keys, as of a trial without a report, get defaults."""
        return cls(
            epoch=result.get("epoch", -1),
            epochs=result.get("epochs", 0),
            rows=result.get("rows", []),
            records=[Record.read(line) for line in result.get("records", [])],
            notes=result.get("notes", []),
            done=result.get("done", False),
            failed=result.get("failed"),
            broke=result.get("broke", False),
            error=result.get("errors", ""),
        )

    def trainings(self) -> list[Row]:
        """Return the row of each training."""
        return [Row.model_validate(row) for row in self.rows]
