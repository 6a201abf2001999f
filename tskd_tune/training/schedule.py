"""How long a training is, and when the test set is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

TestReading = Literal["never", "last", "every_epoch"]


@dataclass(frozen=True)
class Schedule:
    """The length of a training, its seed, and when the test set is read.

    Attributes:
        epochs: the number of epochs.
        seed: fixes data order, augmentation and what networks draw (dropout), as functions of (seed, epoch).
        test: ``last``: at the last epoch only; ``every_epoch``: for comparison with papers that pick the best epoch;
            ``never``: for a search, whose winners are confirmed by another training.
    """

    epochs: int
    seed: int
    test: TestReading = "last"

    def tests(self, epoch: int) -> bool:
        """Tell whether the test set is read at the end of an epoch, counted from 0."""
        return self.test == "every_epoch" or (self.test == "last" and epoch == self.epochs - 1)
