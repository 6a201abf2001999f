"""Knowledge distillation on the box head of a detector: both networks classify the student's proposals."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor

from tskd_tune.contracts import Batch, Boxes, Detected, Probe
from tskd_tune.distillers.base import DISTILLERS, Distiller, Need
from tskd_tune.distillers.softening import divergences


@DISTILLERS.register(
    "detection_kd",
    source="Hinton, Vinyals and Dean 2015, arXiv 1503.02531; on the box head as in mdistiller, arXiv 2203.08679",
)
class DetectionKD(Distiller[Detected]):
    """Divergence of the softened class logits that the box heads of student and teacher give the same boxes.

    With the student's proposals ``R_b`` of image b, the class logits ``s_r`` of the student's box head and ``t_r`` of
    the teacher's, each from its own features::

        weight * T^2 * mean_b mean_{r in R_b} KL(softmax(t_r / T) || softmax(s_r / T))

    The background is one of the classes. The proposals of a detector in training are those that its box head learns
    from, with the true boxes among them, as in mdistiller. An image without proposals adds 0.
    """

    needs = frozenset({Need.BOXES})
    separable = True
    masks = True  # proposals lie inside the images
    capturable = False

    def __init__(
        self,
        probe: Probe | None = None,
        *,
        temperature: PositiveFloat = 1.0,
        weight: NonNegativeFloat = 1.0,
    ) -> None:
        """Set the temperature T and the weight of the divergence.

        Args:
            temperature: T, the divisor of both networks' class logits before the softmax; a larger T gives softer
                probabilities.
            weight: weight of the divergence, which is multiplied by T squared too.
        """
        super().__init__()
        self.temperature = temperature
        self.weight = weight

    def forward(self, student: Detected, teacher: Detected, batch: Batch[Boxes]) -> Mapping[str, Tensor]:
        """Return ``{"detection_kd": ...}`` from class logits ``[boxes, classes + 1]``."""
        boxes = student.proposals
        gaps = divergences(student.classify(boxes), teacher.classify(boxes), self.temperature)
        images = [one.sum() / max(len(one), 1) for one in torch.split(gaps, boxes.counts.tolist())]
        return {"detection_kd": self.weight * self.temperature**2 * torch.stack(images).mean()}
