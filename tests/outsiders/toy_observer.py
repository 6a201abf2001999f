"""An observer of one's own."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import PositiveFloat

from tskd_tune.training.observers import Observer, Training
from tskd_tune.training.record import Record


class Weight(Observer):
    """The sum of the absolute values of the student's last parameters."""

    def __init__(self, *, scale: PositiveFloat = 1.0) -> None:
        """Choose the unit.

        Args:
            scale: what the sum is multiplied with.
        """
        self._scale = scale

    def ended(self, training: Training, record: Record) -> Mapping[str, float]:
        """Return the sum."""
        last = list(training.student.parameters())[-1]
        return {"weight": self._scale * float(last.detach().abs().sum())}
