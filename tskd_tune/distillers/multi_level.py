"""Multi-level logit distillation: of samples, and of how samples and classes correlate (Jin et al., 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor

from tskd_tune.contracts import Batch, Classified, Probe, exact
from tskd_tune.distillers.base import DISTILLERS, Distiller, Need
from tskd_tune.distillers.softening import kl_divergences, log_softened
from tskd_tune.options import DISTINCT

Temperatures = Annotated[list[PositiveFloat], Field(min_length=1), DISTINCT]
TEMPERATURES = [2.0, 3.0, 4.0, 5.0, 6.0]


@DISTILLERS.register(
    "multi_level",
    source="Jin, Wang and Lin, CVPR 2023; weights, temperatures and masks of the authors' code, on one view",
)
class MultiLevel(Distiller):
    """Three losses, each a sum over the temperatures T, of the softened predictions P ``[B, classes]``.

    * instance: ``T^2 * KL`` of every sample, a mean over the batch;
    * batch: the squared gaps between the correlations of samples ``P P'``, summed, over B;
    * class: the squared gaps between the correlations of classes ``P' P``, summed, over the number of classes.

    The authors train on two views of an image, one of them strongly augmented. Here all arms share one view. This class
    has the terms of the authors' code for the weakly augmented view, except two terms (instance, T of 2 and 6) that
    their code computes by mistake on the other view.
    """

    needs = frozenset({Need.LOGITS})

    def __init__(
        self,
        probe: Probe | None = None,
        *,
        temperatures: Temperatures = TEMPERATURES,
        mask: Literal["share", "select", "off"] = "share",
        instance_weight: NonNegativeFloat = 0.9,
        batch_weight: NonNegativeFloat = 0.9,
        class_weight: NonNegativeFloat = 0.9,
        task_weight: NonNegativeFloat = 0.1,
    ) -> None:
        """Set the temperatures, the mask, and the weights of the three losses and of the task loss.

        Args:
            probe: not read.
            temperatures: temperatures by which the logits are softened; the losses of all of them are added.
            mask: what is done with the samples (classes) in which the teacher is at most as confident as in the median
                one, by its largest probability (by its sum over the batch). ``share``: a loss is multiplied by their
                share, about a half, which is what the authors' code computes: its masks meet losses that were averaged
                before. ``select``: they alone have terms in the sums, which is what masks are for; a sample's terms in
                the batch's loss, and a class's in that of the classes, are those of its row of gaps. ``off``: the
                paper's equations.
            instance_weight: weight of the loss of single samples.
            batch_weight: weight of the loss of the correlations between samples.
            class_weight: weight of the loss of the correlations between classes.
            task_weight: weight of the task's own loss, the cross-entropy.
        """
        super().__init__()
        self.temperatures = tuple(temperatures)
        self.mask = mask
        self.instance_weight = instance_weight
        self.batch_weight = batch_weight
        self.class_weight = class_weight
        self.task_weight = task_weight

    def forward(self, student: Classified, teacher: Classified, batch: Batch) -> Mapping[str, Tensor]:
        """Return ``{"instance": ..., "batch": ..., "class": ...}`` from logits ``[B, classes]``."""
        confidences = exact(teacher.logits).softmax(dim=1)
        samples, classes = _unsure(confidences.amax(dim=1)), _unsure(confidences.sum(dim=0))
        rows = [_rows(student.logits, teacher.logits, temperature) for temperature in self.temperatures]
        instance, between_samples, between_classes = (
            torch.stack(level).sum(dim=0) for level in zip(*rows, strict=True)
        )
        return {
            "instance": self.instance_weight * self._masked(instance, samples),
            "batch": self.batch_weight * self._masked(between_samples, samples),
            "class": self.class_weight * self._masked(between_classes, classes),
        }

    def _masked(self, rows: Tensor, mask: Tensor) -> Tensor:
        if self.mask == "select":
            return (rows * mask).mean()
        return rows.mean() * mask.mean() if self.mask == "share" else rows.mean()


def _unsure(confidences: Tensor) -> Tensor:
    """Return 1 where a confidence is at most the median, 0 elsewhere."""
    # torch's median of an even number is the lower middle value, which draws the line where their mean would.
    return (confidences <= confidences.median()).to(confidences.dtype)


def _rows(student: Tensor, teacher: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return the terms of the samples ``[B]``, of the samples' correlations ``[B]``, of the classes' ``[classes]``."""
    given, wanted = log_softened(student, temperature), log_softened(teacher, temperature)
    # Under autocast products of matrices would be rounded to half precision, whatever the type of their factors.
    with torch.autocast(student.device.type, enabled=False):
        p, q = given.exp(), wanted.exp()
        samples, classes = (q @ q.T - p @ p.T).square().sum(dim=1), (q.T @ q - p.T @ p).square().sum(dim=1)
    return temperature**2 * kl_divergences(given, wanted), samples, classes
