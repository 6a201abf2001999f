"""Knowledge distillation: the student's softened logits follow the teacher's (Hinton et al., 2015)."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor

from tskd_tune.contracts import Batch, Classified, Probe
from tskd_tune.distillers.base import DISTILLERS, Distiller, Need
from tskd_tune.distillers.softening import divergences


@DISTILLERS.register("kd", source="Hinton, Vinyals and Dean 2015, arXiv 1503.02531; weights as in RepDistiller")
class KD(Distiller):
    """Divergence of softened logits: ``weight * T^2 * KL(softmax(t / T) || softmax(s / T))``, a mean over the batch."""

    needs = frozenset({Need.LOGITS})
    separable = True

    def __init__(
        self,
        probe: Probe | None = None,
        *,
        temperature: PositiveFloat = 4.0,
        weight: NonNegativeFloat = 0.9,
        task_weight: NonNegativeFloat = 0.1,
    ) -> None:
        """Set the temperature T, the weight of the divergence and the weight of the task loss.

        Args:
            temperature: T, the divisor of both networks' logits before the softmax; a larger T gives softer
                probabilities.
            weight: weight of the divergence, which is multiplied by T squared too.
            task_weight: weight of the task's own loss, the cross-entropy.
        """
        super().__init__()
        self.temperature = temperature
        self.weight = weight
        self.task_weight = task_weight

    def forward(self, student: Classified, teacher: Classified, batch: Batch) -> Mapping[str, Tensor]:
        """Return ``{"kd": ...}`` from logits ``[B, classes]``."""
        gaps = divergences(student.logits, teacher.logits, self.temperature)
        return {"kd": self.weight * self.temperature**2 * gaps.mean()}
