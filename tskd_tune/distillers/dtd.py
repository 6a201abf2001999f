"""Dynamic temperature distillation: harder samples are softened less (Wen et al., 2019), with or without adjustment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor
from torch.nn import functional

from tskd_tune.contracts import Batch, Classified, Probe, exact
from tskd_tune.distillers.base import DISTILLERS, Distiller, Need
from tskd_tune.distillers.ka import Mode, Share, adjusted, correct_of
from tskd_tune.distillers.softening import kl_divergences, log_softened
from tskd_tune.errors import InputError

GAMMA = 1.0


@DISTILLERS.register(
    "dtd",
    source="Wen, Lai and Qian 2019, arXiv 1911.07471; weights as in RepDistiller's KD, beta, gamma and the floor ours",
)
class DTD(Distiller):
    """Soften every sample by a temperature of its own: ``weight * tau^2 * KL(p_t^tau || p_s^tau)``, a mean over x.

    A sample's temperature is ``tau = T + beta * (mean(w) - w)``, but at least ``min_temperature``. If no sample is at
    this minimum, the mean temperature of the batch is T. The hardness w of a sample carries no gradient:

    * ``flsw``: ``(1 - cos(s, t))^gamma`` of the logits of student and teacher;
    * ``cwsm``: ``1 / max softmax(s)``, the student's lack of confidence at temperature 1, between 1 and the number of
      classes: its beta is of the order of 1.

    An adjustment corrects the teacher's softened probabilities as ``ka`` does; the paper's KA with DTD, which has no
    other loss, is an adjustment with ``weight: 1, task_weight: 0``. With beta 0 the distiller is ``kd``, and ``ka``
    with an adjustment. The authors' own beta, gamma and T could not be verified.
    """

    needs = frozenset({Need.LOGITS})

    def __init__(
        self,
        probe: Probe | None = None,
        *,
        weighting: Literal["flsw", "cwsm"] = "flsw",
        temperature: PositiveFloat = 4.0,
        beta: NonNegativeFloat = 10.0,
        gamma: PositiveFloat | None = None,
        min_temperature: PositiveFloat = 1.0,
        adjustment: Literal["off", Mode] = "off",
        correct: Share | None = None,
        weight: NonNegativeFloat = 0.9,
        task_weight: NonNegativeFloat = 0.1,
    ) -> None:
        """Set the base temperature T and the spread of the temperatures, the adjustment, and the weights.

        Args:
            probe: not read.
            weighting: how the hardness w of a sample is measured: ``flsw``: ``(1 - cos(s, t))^gamma`` of the logits;
                ``cwsm``: 1 over the student's largest probability.
            temperature: T, the temperature around which those of the samples are spread.
            beta: how far a sample's temperature falls where its hardness w rises by 1.
            gamma: power in ``flsw``; null: 1; refused with ``cwsm``.
            min_temperature: smallest temperature of a sample.
            adjustment: the correction of the teacher's wrong predictions, as in ``ka``; ``off``: not at all.
            correct: probability that the target gets under ``label_smoothing``; null: 0.99; refused elsewhere.
            weight: weight of the divergence loss.
            task_weight: weight of the task's own loss, the cross-entropy.

        Raises:
            InputError: an option does not apply, or ``min_temperature`` is above T.
        """
        super().__init__()
        _check(weighting, gamma, temperature, min_temperature)
        self.weighting = weighting
        self.temperature = temperature
        self.beta = beta
        self.gamma = GAMMA if gamma is None else gamma
        self.min_temperature = min_temperature
        self.adjustment: Literal["off", Mode] = adjustment
        self.correct = correct_of("dtd", adjustment, correct)
        self.weight = weight
        self.task_weight = task_weight

    def forward(self, student: Classified, teacher: Classified, batch: Batch) -> Mapping[str, Tensor]:
        """Return ``{"dtd": ...}`` from logits ``[B, classes]`` and targets ``[B]``."""
        temperatures = self.temperatures(student.logits, teacher.logits).unsqueeze(1)
        wanted = log_softened(teacher.logits, temperatures)
        if self.adjustment != "off":
            wanted = adjusted(wanted, batch.targets, self.adjustment, self.correct)
        gaps = kl_divergences(log_softened(student.logits, temperatures), wanted)
        return {"dtd": self.weight * (temperatures.squeeze(1) ** 2 * gaps).mean()}

    @torch.no_grad()
    def temperatures(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the temperature of every sample, ``[B]``, from logits ``[B, classes]``; a constant to gradients."""
        hardness = self._hardness(exact(student), exact(teacher))
        return (self.temperature + self.beta * (hardness.mean() - hardness)).clamp_min(self.min_temperature)

    def _hardness(self, student: Tensor, teacher: Tensor) -> Tensor:
        if self.weighting == "cwsm":
            return 1 / student.softmax(dim=1).amax(dim=1)
        # Rounding may leave a cosine a little above 1, and a power of a negative number is no number.
        return (1 - functional.cosine_similarity(student, teacher)).clamp_min(0) ** self.gamma


def _check(weighting: str, gamma: float | None, temperature: float, min_temperature: float) -> None:
    if gamma is not None and weighting != "flsw":
        raise InputError(
            f"distiller.gamma: 'dtd' uses gamma with weighting: flsw only, got gamma: {gamma} with weighting:"
            f" {weighting}; leave gamma out, or set weighting: flsw"
        )
    if min_temperature > temperature:
        raise InputError(
            f"distiller.min_temperature: must not exceed temperature, got min_temperature: {min_temperature} and"
            f" temperature: {temperature}; lower min_temperature or raise temperature"
        )
