"""Several trainings side by side in one process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeAlias, TypeVar

from tskd_tune.contracts import Out
from tskd_tune.errors import DivergedError
from tskd_tune.training.record import Record
from tskd_tune.training.steps import StepKind
from tskd_tune.training.streams import undisturbed
from tskd_tune.training.trainer import Trainer

Result = TypeVar("Result")
Turn: TypeAlias = Callable[["Trainer[Out]"], None]
"""What is told whose step comes next."""
Survives: TypeAlias = Callable[[BaseException], bool]
"""Whether the other trainings go on after an exception of one."""


def advance(
    trainers: Sequence[Trainer[Out]],
    turn: Turn[Out] = lambda trainer: None,
    survives: Survives = lambda error: False,
) -> list[Record | BaseException]:
    """Train the next epoch of each training, or the rest of the one that was begun, taking steps in turns.

    Each training ends with the bits that it would have alone: no training changes what another one draws, and a
    training that diverges does not stop the others, and its observers are told. Any other exception stops all, unless
    the others survive it.

    A training whose epoch has ended waits until the epochs of all have ended. Trainings of one table have epochs of
    equally many steps, and a wait would only be saved where they have not.

    Args:
        trainers: the trainings.
        turn: is called with each training before each of its steps, and so tells which training raised an exception.
        survives: is called with an exception that is no divergence; True: only the training that raised it stops.

    Returns:
        For each training the record of its epoch, or the error that stopped it, such as the `DivergedError`.
    """
    if len(trainers) == 1:
        turn(trainers[0])
        return [_result(trainers[0], trainers[0].epoch, survives)]
    epochs = [_Epoch(trainer) for trainer in trainers]
    with undisturbed():
        while going := [epoch for epoch in epochs if epoch.result is None]:
            for epoch in going:
                turn(epoch.trainer)
                epoch.result = _result(epoch.trainer, epoch.go_on, survives)
    return [epoch.result for epoch in epochs if epoch.result is not None]


class _Epoch(Generic[Out]):
    """One epoch of one training, a step at a time.

    Attributes:
        trainer: the training.
        result: what the epoch came to; None while it goes on.
    """

    def __init__(self, trainer: Trainer[Out]) -> None:
        self.trainer = trainer
        self.result: Record | BaseException | None = None
        self._steps: Iterator[StepKind] | None = None

    def go_on(self) -> Record | None:
        """Take the next step, or end the epoch after the last one and return its record."""
        if self._steps is None:
            if not self.trainer.is_within_epoch:
                self.trainer.begin()
            self._steps = self.trainer.steps(restores=False)
        return self.trainer.end() if next(self._steps, None) is None else None


def _result(trainer: Trainer[Out], train: Callable[[], Result], survives: Survives) -> Result | BaseException:
    try:
        return train()
    except DivergedError as error:
        trainer.observers.diverged(trainer, error)
        return error
    except (Exception, SystemExit) as error:
        if not survives(error):
            raise
        return error
