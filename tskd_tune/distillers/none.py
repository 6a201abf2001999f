"""No distillation: the task loss alone. The baseline, and the loss to which equation 9 of TSKD adds the review."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from tskd_tune.contracts import AnyBatch, Output, Probe
from tskd_tune.distillers.base import DISTILLERS, Distiller


@DISTILLERS.register("none", source="the plain training that every distillation is compared with")
class NoDistiller(Distiller[Output]):
    """Add nothing to the task's loss; the teacher does not run."""

    separable = True
    masks = True

    def __init__(self, probe: Probe | None = None) -> None:
        """Ignore the probe."""
        super().__init__()

    def forward(self, student: Output, teacher: Output, batch: AnyBatch) -> Mapping[str, Tensor]:
        """Return no loss."""
        return {}
