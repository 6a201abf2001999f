"""Several trainings side by side in one process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tskd_tune.errors import RunError
from tskd_tune.training.record import Record
from tskd_tune.training.steps import StepKind
from tskd_tune.training.trainer import Trainer


def advance(trainers: Sequence[Trainer]) -> list[Record | RunError]:
    """Train the next epoch of each training, taking steps in turns.

    Each training ends with the bits that it would have alone: no training changes what another one draws, and a
    training that diverges does not stop the others.

    Returns:
        For each training the record of its epoch, or the error that ended it.
    """
    epochs = [_Epoch(trainer) for trainer in trainers]
    while any(epoch.result is None for epoch in epochs):
        for epoch in epochs:
            epoch.go_on()
    return [epoch.result for epoch in epochs if epoch.result is not None]


class _Epoch:
    """One epoch of one training, a step at a time.

    Attributes:
        result: what the epoch came to; None while it goes on.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._steps: Iterator[StepKind] | None = None
        self.result: Record | RunError | None = None

    def go_on(self) -> None:
        """Take the next step, or end the epoch after the last one."""
        if self.result is not None:
            return
        try:
            if self._steps is None:
                self._trainer.begin()
                self._steps = self._trainer.steps()
            if next(self._steps, None) is None:
                self.result = self._trainer.end()
        except RunError as error:
            self.result = error
