"""Logit standardization: distillation of the z-scores of the logits (Sun et al., 2024)."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor

from tskd_tune.contracts import Batch, Classified, Probe, exact
from tskd_tune.distillers.base import DISTILLERS, Distiller, Need
from tskd_tune.distillers.softening import divergences, refuse_two_classes

EPSILON = 1e-7


def standardized(logits: Tensor) -> Tensor:
    """Return the z-scores of every sample's logits ``[B, classes]``, in float32 at least.

    The standard deviation is the unbiased one plus ``1e-7``, as in the authors' code.
    """
    values = exact(logits)
    return (values - values.mean(dim=1, keepdim=True)) / (values.std(dim=1, keepdim=True) + EPSILON)


@DISTILLERS.register(
    "logit_standardization", source="Sun et al. 2024, arXiv 2403.01427; weights and temperature of the authors' code"
)
class LogitStandardization(Distiller):
    """KD of z-scores: ``weight * T^2 * KL(softmax(z(t) / T) || softmax(z(s) / T))``, a mean over the batch.

    Neither a shift nor a positive scale of either network's logits changes the loss.
    """

    needs = frozenset({Need.LOGITS})
    separable = True

    def __init__(
        self,
        probe: Probe | None = None,
        *,
        temperature: PositiveFloat = 2.0,
        weight: NonNegativeFloat = 9.0,
        task_weight: NonNegativeFloat = 0.1,
    ) -> None:
        """Set the base temperature T, the weight of the divergence and the weight of the task loss.

        Args:
            temperature: T, the divisor of the logits' z-scores before the softmax; a larger T gives softer
                probabilities.
            weight: weight of the divergence, which is multiplied by T squared too.
            task_weight: weight of the task's own loss, the cross-entropy.

        Raises:
            InputError: the task has two classes.
        """
        super().__init__()
        refuse_two_classes(probe, "logit_standardization", "the z-scores of two logits are the same for every sample")
        self.temperature = temperature
        self.weight = weight
        self.task_weight = task_weight

    def forward(self, student: Classified, teacher: Classified, batch: Batch) -> Mapping[str, Tensor]:
        """Return ``{"logit_standardization": ...}`` from logits ``[B, classes]``."""
        gaps = divergences(standardized(student.logits), standardized(teacher.logits), self.temperature)
        return {"logit_standardization": self.weight * self.temperature**2 * gaps.mean()}
