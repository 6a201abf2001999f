"""Knowledge adjustment: wrong predictions of the teacher are corrected before distillation (Wen et al., 2019)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor

from tskd_tune.contracts import Batch, Classified, Probe
from tskd_tune.distillers.base import DISTILLERS, Distiller, Need
from tskd_tune.distillers.softening import kl_divergences, log_softened
from tskd_tune.errors import InputError

CORRECT = 0.99

Mode = Literal["probability_shift", "label_smoothing"]
Share = Annotated[float, Field(gt=0, lt=1)]


def adjusted(log_probabilities: Tensor, targets: Tensor, mode: Mode, correct: float = CORRECT) -> Tensor:
    """Correct the samples whose target is not the most probable class; keep the others.

    A sample whose target is as probable as another class, and no class is more probable, counts as right.

    Args:
        log_probabilities: ``[B, classes]`` of the teacher, softened or not.
        targets: ``[B]``, the class of every sample.
        mode: ``probability_shift``: the target and the most probable class swap their probabilities;
            ``label_smoothing``: the target gets ``correct``, the other classes share the rest evenly, whatever
            the temperature.
        correct: the target's probability under label smoothing.

    Returns:
        Log-probabilities ``[B, classes]``.
    """
    target = targets.unsqueeze(1)
    best, where = log_probabilities.max(dim=1, keepdim=True)
    of_target = log_probabilities.gather(1, target)
    if mode == "probability_shift":
        put_right = log_probabilities.scatter(1, where, of_target).scatter(1, target, best)
    else:
        rest = math.log1p(-correct) - math.log(log_probabilities.shape[1] - 1)
        put_right = torch.full_like(log_probabilities, rest).scatter(1, target, math.log(correct))
    return torch.where(of_target < best, put_right, log_probabilities)


def correct_of(name: str, mode: str, correct: float | None) -> float:
    """Return the target's probability under label smoothing; the default if none is given.

    Raises:
        InputError: a probability is given with another mode.
    """
    if correct is not None and mode != "label_smoothing":
        raise InputError(
            f"distiller: '{name}' uses correct only with label_smoothing, got correct: {correct} with {mode}; leave"
            " correct out, or choose label_smoothing"
        )
    return CORRECT if correct is None else correct


@DISTILLERS.register(
    "ka", source="Wen, Lai and Qian 2019, arXiv 1911.07471; temperature as in RepDistiller's KD, the weights ours"
)
class KA(Distiller):
    """Follow the corrected teacher: ``weight * T^2 * KL(q || softmax(s / T))``, a mean over the batch.

    The corrected teacher ``q`` is never wrong, so the task loss has weight 0 by default; ``task_weight`` changes this.
    The temperature is 4, as in ``kd``; the authors' own value could not be verified. Only the correction and the
    weights differ from ``kd``.
    """

    needs = frozenset({Need.LOGITS})
    separable = True

    def __init__(
        self,
        probe: Probe | None = None,
        *,
        mode: Mode = "probability_shift",
        correct: Share | None = None,
        temperature: PositiveFloat = 4.0,
        weight: NonNegativeFloat = 1.0,
        task_weight: NonNegativeFloat = 0.0,
    ) -> None:
        """Set the correction, the target's probability under label smoothing (null: 0.99), and the weights.

        Args:
            mode: how a wrong prediction of the teacher is corrected: ``probability_shift``: the target and the most
                probable class swap their probabilities; ``label_smoothing``: the target gets ``correct``, the other
                classes share the rest evenly.
            correct: probability that the target gets under ``label_smoothing``; null: 0.99; refused elsewhere.
            temperature: T, the divisor of both networks' logits before the softmax; a larger T gives softer
                probabilities.
            weight: weight of the divergence loss.
            task_weight: weight of the task's own loss, the cross-entropy.

        Raises:
            InputError: ``correct`` is given with another mode.
        """
        super().__init__()
        self.mode: Mode = mode
        self.correct = correct_of("ka", mode, correct)
        self.temperature = temperature
        self.weight = weight
        self.task_weight = task_weight

    def forward(self, student: Classified, teacher: Classified, batch: Batch) -> Mapping[str, Tensor]:
        """Return ``{"ka": ...}`` from logits ``[B, classes]`` and targets ``[B]``."""
        taught = log_softened(teacher.logits, self.temperature)
        wanted = adjusted(taught, batch.targets, self.mode, self.correct)
        gaps = kl_divergences(log_softened(student.logits, self.temperature), wanted)
        return {"ka": self.weight * self.temperature**2 * gaps.mean()}
