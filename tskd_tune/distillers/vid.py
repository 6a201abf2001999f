"""Variational information distillation: the student predicts the teacher's features (Ahn et al., 2019)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated

import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor, nn
from torch.nn import functional

from tskd_tune.contracts import Batch, Classified, Probe, exact
from tskd_tune.distillers.base import DISTILLERS, Distiller, Need
from tskd_tune.distillers.stages import shared_stages, with_larger_pooled

LEAST_VARIANCE = 1e-5


class Posterior(nn.Module):
    """``q(t | s)``, a Gaussian: its mean is regressed from the student, and each channel has a learned variance.

    Attributes:
        log_scale: ``[C_t]``; a variance is its ``softplus(log_scale) + 1e-5``.
    """

    def __init__(self, inputs: int, outputs: int, variance: float) -> None:
        """Regress ``outputs`` channels from ``inputs`` channels; every variance starts at ``variance``."""
        super().__init__()
        self.regressor = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 1, bias=False),
        )
        self.log_scale = nn.Parameter(torch.full((outputs,), _softplus_inverse(variance - LEAST_VARIANCE)))

    def forward(self, given: Tensor, wanted: Tensor) -> Tensor:
        """Return the mean of ``-log q`` without its constant, of features ``[B, C_s, H, W]`` and ``[B, C_t, H, W]``."""
        variance = (functional.softplus(exact(self.log_scale)) + LEAST_VARIANCE).view(1, -1, 1, 1)
        gaps = exact(self.regressor(given)) - exact(wanted)
        return 0.5 * (gaps.square() / variance + variance.log()).mean()


@DISTILLERS.register("vid", source="Ahn et al. 2019, arXiv 1904.05835; regressor and weight of RepDistiller")
class VID(Distiller):
    """Sum over the stages, without the stem, of the negative log-likelihood of the teacher's features."""

    needs = frozenset({Need.FEATURES})
    separable = True

    def __init__(
        self,
        probe: Probe,
        *,
        variance: Annotated[float, Field(gt=LEAST_VARIANCE)] = 5.0,
        weight: NonNegativeFloat = 1.0,
    ) -> None:
        """Set the initial variance of every channel of the teacher, and the loss weight.

        Args:
            variance: variance with which every channel of the teacher begins, before it is learned.
            weight: weight of the negative log-likelihood.
        """
        super().__init__()
        self.stages = shared_stages(probe, "vid")
        self.posteriors = nn.ModuleList(
            Posterior(probe.student.features[stage][0], probe.teacher.features[stage][0], variance)
            for stage in self.stages
        )
        self.weight = weight

    def forward(self, student: Classified, teacher: Classified, batch: Batch) -> Mapping[str, Tensor]:
        """Return ``{"vid": ...}``, which may be negative; if the sizes differ, the larger map is pooled."""
        losses = [
            posterior(*with_larger_pooled(student, teacher, stage))
            for stage, posterior in zip(self.stages, self.posteriors, strict=True)
        ]
        return {"vid": self.weight * sum(losses[1:], losses[0])}


def _softplus_inverse(value: float) -> float:
    """Return ``log(exp(value) - 1)``, also where the exponential would overflow."""
    return value + math.log(-math.expm1(-value))
