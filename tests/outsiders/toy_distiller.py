"""A distiller of one's own."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import NonNegativeFloat
from torch import Tensor

from tskd_tune.contracts import Batch, Classified, Probe
from tskd_tune.distillers import Distiller, Need


class Gaps(Distiller):
    """The squared gaps between the logits of the student and those of the teacher."""

    needs = frozenset({Need.LOGITS})
    separable = True

    def __init__(self, probe: Probe, *, weight: NonNegativeFloat = 1.0) -> None:
        """Set the weight.

        Args:
            weight: loss weight of the squared gaps.
        """
        super().__init__()
        self.weight = weight

    def forward(self, student: Classified, teacher: Classified, batch: Batch) -> Mapping[str, Tensor]:
        """Return the mean of the squared gaps, weighted."""
        return {"gaps": self.weight * (student.logits - teacher.logits).square().mean()}
