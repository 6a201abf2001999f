"""How long a training is, and when the validation and the test set are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

TestReading = Literal["never", "last", "every_epoch"]
ValidationReading = Literal["every_epoch", "last"] | Annotated[int, Field(ge=1)]
"""In every epoch, in the last one, or in every n-th epoch and the last one."""


@dataclass(frozen=True)
class Schedule:
    """The length of a training, its seed, and when the validation and the test set are read.

    Attributes:
        epochs: the number of epochs.
        seed: fixes data order, augmentation and what networks draw (dropout), as functions of (seed, epoch).
        test: ``last``: at the last epoch only; ``every_epoch``: for comparison with papers that pick the best epoch;
            ``never``: for a search, whose winners are confirmed by another training.
        validation: in which epochs the validation set is evaluated.
    """

    epochs: int
    seed: int
    test: TestReading = "last"
    validation: ValidationReading = "every_epoch"

    def validates(self, epoch: int) -> bool:
        """Tell whether the validation set is evaluated at the end of an epoch, counted from 0.

        >>> [epoch for epoch in range(7) if Schedule(epochs=7, seed=1, validation=3).validates(epoch)]
        [2, 5, 6]
        """
        every = {"every_epoch": 1, "last": self.epochs}.get(str(self.validation), self.validation)
        return epoch == self.epochs - 1 or (epoch + 1) % int(every) == 0

    def tests(self, epoch: int) -> bool:
        """Tell whether the test set is read at the end of an epoch, counted from 0."""
        return self.test == "every_epoch" or (self.test == "last" and epoch == self.epochs - 1)
