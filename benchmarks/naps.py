"""What the trials of the suite ``platform`` train: a network that sleeps, and an observer that reads the clocks."""

from __future__ import annotations

import time
from collections.abc import Mapping

from pydantic import NonNegativeFloat
from torch import Tensor, nn

from tskd_tune.contracts import BatchNormStatistics, Classified
from tskd_tune.networks import Network
from tskd_tune.training.observers import Observer, Training
from tskd_tune.training.record import Record


class Sleeper(Network):
    """A linear classifier of mean colours whose step takes as long as it is told."""

    def __init__(self, classes: int, channels: int = 3, *, seconds: NonNegativeFloat = 0.0) -> None:
        """Build the layer.

        Args:
            seconds: how long a forward pass in training mode sleeps.
        """
        super().__init__()
        self.seconds = seconds
        self.fc = nn.Linear(channels, classes)

    def forward(self, images: Tensor) -> Classified:
        """Map images ``[B, channels, H, W]`` to their output."""
        if self.training:
            time.sleep(self.seconds)
        embedding = images.mean((2, 3))
        return Classified(self.fc(embedding), {"stage1": images}, {"stage1": images}, embedding)

    def stage_norms(self) -> Mapping[str, BatchNormStatistics]:
        """Return nothing: there is no batch norm."""
        return {}


class Clocks(Observer):
    """Add to each epoch when it began and ended: seconds of the clock on the wall, and of this process's CPU time."""

    def __init__(self) -> None:
        """Wait for the first epoch."""
        self._begun = (0.0, 0.0)

    def begun(self, training: Training) -> None:
        """Read the clocks before the first step."""
        self._begun = time.time(), time.process_time()

    def ended(self, training: Training, record: Record) -> Mapping[str, float]:
        """Return the readings of the clocks."""
        (wall, cpu), (wall_now, cpu_now) = self._begun, (time.time(), time.process_time())
        return {"wall_begun": wall, "wall_ended": wall_now, "cpu_begun": cpu, "cpu_ended": cpu_now}
