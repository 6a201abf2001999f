"""The record of an epoch: what a history keeps of the epoch, one line each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tskd_tune.errors import RunError
from tskd_tune.method.plan import Phase
from tskd_tune.metrics import Measured

Line = Mapping[str, int | float | str]
"""A record as plain data."""

HEADING = ("seed", "epoch", "phase", "lr")
CLOCKS = ("seconds", "eval_seconds")


@dataclass(frozen=True)
class Record:
    """What an epoch of a training showed.

    Attributes:
        seed: the seed of the training.
        epoch: the number of the epoch, from 0.
        phase: what the epoch did.
        lr: the learning rate.
        numbers: by name, in the order of the history line: the mean of each loss over the steps (``loss``,
            ``loss_task``, ``loss_<name>``), what the first batch of a review showed (``review_loss``, ``lambda``,
            ``grad_norm_<loss>``), the metrics (see `tskd_tune.metrics.measured`), and what observers found.
        seconds: the time that the steps took.
        eval_seconds: the time that the evaluation took.
    """

    seed: int
    epoch: int
    phase: Phase
    lr: float
    numbers: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    eval_seconds: float = 0.0

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics that were measured at the end of the epoch, by their names in rows and histories."""
        return {name: value for name, value in self.numbers.items() if Measured.read(name) is not None}

    def with_numbers(self, found: Mapping[str, float]) -> Record:
        """Return this record with more numbers.

        Raises:
            RunError: a name is already taken.
        """
        taken = [name for name in found if name in self.plain()]
        if taken:
            raise RunError(
                f"observe: the name '{taken[0]}' already stands in the history line; give the number another name"
            )
        metrics = [name for name in found if Measured.read(name) is not None]
        if metrics:
            raise RunError(
                f"observe: the name '{metrics[0]}' is that of a metric, which a row would take for a result; give the"
                " number a name that does not begin with val_ or test_"
            )
        return replace(self, numbers={**self.numbers, **found})

    def plain(self) -> dict[str, int | float | str]:
        """Return the history line: plain data, in a fixed order."""
        heading = {"seed": self.seed, "epoch": self.epoch, "phase": self.phase, "lr": self.lr}
        return {**heading, **self.numbers, "seconds": self.seconds, "eval_seconds": self.eval_seconds}

    @classmethod
    def read(cls, line: Line) -> Record:
        """Read a history line that `plain` wrote.

        >>> line = {"seed": 1, "epoch": 0, "phase": "general", "lr": 0.1, "loss": 2.3, "seconds": 4.0}
        >>> Record.read(line).numbers
        {'loss': 2.3}
        """
        numbers = {name: value for name, value in line.items() if name not in (*HEADING, *CLOCKS)}
        return cls(**{name: line[name] for name in (*HEADING, *CLOCKS) if name in line}, numbers=numbers)  # type: ignore[arg-type]
