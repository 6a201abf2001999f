"""Attention transfer: the student's attention maps follow the teacher's (Zagoruyko and Komodakis, 2017)."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor
from torch.nn import functional

from tskd_tune.contracts import Batch, Classified, Probe
from tskd_tune.distillers.base import DISTILLERS, Distiller, Need
from tskd_tune.distillers.stages import shared_stages, with_larger_pooled
from tskd_tune.method.transforms import Attention


@DISTILLERS.register("at", source="Zagoruyko and Komodakis 2017, arXiv 1612.03928; weights as in RepDistiller")
class AT(Distiller):
    """Sum over the stages, without the stem, of the mean squared difference of normalized attention maps."""

    needs = frozenset({Need.FEATURES})
    separable = True

    def __init__(self, probe: Probe, *, power: PositiveInt = 2, weight: NonNegativeFloat = 1000.0) -> None:
        """Set the power of the activations, and the loss weight.

        Args:
            power: power of the absolute activations whose mean over the channels is an attention map.
            weight: weight of the attention loss.
        """
        super().__init__()
        self.stages = shared_stages(probe, "at")
        self.attention = Attention(power=power, reduce="mean", norm="l2")
        self.weight = weight

    def forward(self, student: Classified, teacher: Classified, batch: Batch) -> Mapping[str, Tensor]:
        """Return ``{"at": ...}`` from features ``[B, C, H, W]``; if the sizes differ, the larger map is pooled."""
        gaps = [self._gap(*with_larger_pooled(student, teacher, stage)) for stage in self.stages]
        return {"at": self.weight * sum(gaps[1:], gaps[0])}

    def _gap(self, given: Tensor, wanted: Tensor) -> Tensor:
        return functional.mse_loss(self.attention(given), self.attention(wanted))
