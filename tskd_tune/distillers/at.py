"""Attention transfer: the student's attention maps follow the teacher's (Zagoruyko and Komodakis, 2017)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor
from torch.nn import functional

from tskd_tune.distillers.base import DISTILLERS, Distiller, Need
from tskd_tune.method.transforms import Attention
from tskd_tune.output import Batch, Output, Probe


@DISTILLERS.register("at", source="Zagoruyko and Komodakis 2017, arXiv 1612.03928; weights as in RepDistiller")
class AT(Distiller):
    """Sum over the stages, the stem left out, of the mean squared difference of normalized attention maps."""

    needs: ClassVar[frozenset[Need]] = frozenset({Need.FEATURES})

    def __init__(
        self, probe: Probe | None = None, *, power: PositiveInt = 2, weight: NonNegativeFloat = 1000.0
    ) -> None:
        """Set the power that activations are raised to, and the loss's weight."""
        super().__init__()
        self.attention = Attention(power=power, reduce="mean", norm="l2")
        self.weight = weight

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Mapping[str, Tensor]:
        """Return ``{"at": ...}`` from features ``[B, C, H, W]``; of two sizes the larger map is pooled."""
        stages = [stage for stage in student.features if stage != "stem"]
        gaps = [self._gap(student.features[stage], teacher.features[stage]) for stage in stages]
        return {"at": self.weight * sum(gaps[1:], gaps[0])}

    def _gap(self, given: Tensor, wanted: Tensor) -> Tensor:
        height, width = min(given.shape[-2:], wanted.shape[-2:])
        pooled = [functional.adaptive_avg_pool2d(map_, (height, width)) for map_ in (given, wanted)]
        return functional.mse_loss(self.attention(pooled[0]), self.attention(pooled[1]))
