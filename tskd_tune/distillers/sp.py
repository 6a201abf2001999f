"""Similarity-preserving distillation: the student keeps the teacher's similarities of samples (Tung and Mori, 2019)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import NonNegativeFloat
from torch import Tensor
from torch.nn import functional

from tskd_tune.contracts import Batch, Classified, Probe, exact
from tskd_tune.distillers.base import DISTILLERS, Distiller, Need
from tskd_tune.distillers.stages import own_stages


@DISTILLERS.register("sp", source="Tung and Mori 2019, arXiv 1907.09682; the stage and weight of RepDistiller")
class SP(Distiller):
    """Compare the similarities of a batch, ``weight / B^2 * ||G_t - G_s||^2``, at the last stage of each network.

    ``G`` holds the inner products of all flattened features, each row scaled to length one. Channels, sizes and
    the stages' names may differ between the networks. With a batch of one sample the loss is zero.
    """

    needs = frozenset({Need.FEATURES})
    smallest_batch = 2

    def __init__(self, probe: Probe, *, weight: NonNegativeFloat = 3000.0) -> None:
        """Set the loss weight.

        Args:
            weight: weight of the similarity loss.

        Raises:
            InputError: a network has no stages behind its stem.
        """
        super().__init__()
        self.student_stage = own_stages(probe.student, "sp", "student")[-1]
        self.teacher_stage = own_stages(probe.teacher, "sp", "teacher")[-1]
        self.weight = weight

    def forward(self, student: Classified, teacher: Classified, batch: Batch) -> Mapping[str, Tensor]:
        """Return ``{"sp": ...}`` from features ``[B, C, H, W]``."""
        given, wanted = student.features[self.student_stage], teacher.features[self.teacher_stage]
        with torch.autocast(given.device.type, enabled=False):
            return {"sp": self.weight * functional.mse_loss(similarities(given), similarities(wanted))}


def similarities(features: Tensor) -> Tensor:
    """Return the normalized similarities of all samples, ``[B, B]``, of features ``[B, C, H, W]``."""
    flat = exact(features).flatten(1)
    return functional.normalize(flat @ flat.T, dim=1)
