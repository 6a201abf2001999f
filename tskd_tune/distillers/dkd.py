"""Decoupled knowledge distillation: target and non-target classes are weighted apart (Zhao et al., 2022)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat
from torch import Tensor
from torch.nn import functional

from tskd_tune.contracts import Batch, Classified, Probe, varying, weighted
from tskd_tune.distillers.base import DISTILLERS, Distiller, Need
from tskd_tune.distillers.softening import kl_divergences, log_softened, refuse_two_classes


@DISTILLERS.register("dkd", source="Zhao et al. 2022, arXiv 2203.08679; weights and warm-up as in mdistiller")
class DKD(Distiller):
    """Weight two divergences: ``T^2 * (alpha * TCKD + beta * NCKD)``, a mean over the batch, after a warm-up.

    TCKD compares the probability of the target with that of all other classes together, NCKD how the others share
    theirs (Eq. 7). KD is the sum with alpha 1 and with ``1 - p_t(target)``, the sample's own, for beta (Eq. 6). Both
    are computed from log-probabilities, so a probability that rounds to 0 causes no error.

    In the warm-up the loss weight grows by equal steps from ``1 / warmup`` in epoch 0 to 1 in epoch ``warmup - 1``.
    """

    needs = frozenset({Need.LOGITS})
    separable = True
    factor: Tensor

    def __init__(
        self,
        probe: Probe | None = None,
        *,
        alpha: NonNegativeFloat = 1.0,
        beta: NonNegativeFloat = 8.0,
        temperature: PositiveFloat = 4.0,
        warmup: NonNegativeInt = 20,
        task_weight: NonNegativeFloat = 1.0,
    ) -> None:
        """Set the weights of TCKD and NCKD, T, the length of the warm-up and the weight of the task loss.

        Args:
            alpha: weight of TCKD, the divergence of the target's probability from that of all other classes together.
            beta: weight of NCKD, the divergence among the classes other than the target.
            temperature: T, the divisor of both networks' logits before the softmax; a larger T gives softer
                probabilities.
            warmup: epochs in which the loss grows by equal steps to its full weight; 0: full weight from epoch 0.
            task_weight: weight of the task's own loss, the cross-entropy.

        Raises:
            InputError: the task has two classes.
        """
        super().__init__()
        refuse_two_classes(probe, "dkd", "only one class remains beside the target")
        self.alpha = alpha
        self.beta = beta
        self.temperature = temperature
        self.warmup = warmup
        self.task_weight = task_weight
        self.register_buffer("factor", varying(self._factor(0)), persistent=False)

    def begin_epoch(self, epoch: int, random: torch.Generator) -> None:
        """Set the loss's factor of the epoch; mdistiller counts epochs from 1, this distiller from 0."""
        self.factor.fill_(self._factor(epoch))

    def forward(self, student: Classified, teacher: Classified, batch: Batch) -> Mapping[str, Tensor]:
        """Return ``{"dkd": ...}`` from logits ``[B, classes]`` and targets ``[B]``."""
        given, wanted = (log_softened(output.logits, self.temperature) for output in (student, teacher))
        is_target = torch.arange(given.shape[1], device=given.device) == batch.targets.unsqueeze(1)
        target = kl_divergences(_target_and_rest(given, is_target), _target_and_rest(wanted, is_target))
        others = kl_divergences(_among_others(given, is_target), _among_others(wanted, is_target))
        gaps = self.alpha * target + self.beta * others
        return {"dkd": weighted(self.factor, gaps.mean())}

    def _factor(self, epoch: int) -> float:
        share = min((epoch + 1) / self.warmup, 1.0) if self.warmup else 1.0
        return share * self.temperature**2


def _target_and_rest(log_probabilities: Tensor, is_target: Tensor) -> Tensor:
    """Return log-probabilities ``[B, 2]``: of the target, and of all other classes together."""
    target = log_probabilities.masked_fill(~is_target, -math.inf).amax(dim=1)
    rest = log_probabilities.masked_fill(is_target, -math.inf).logsumexp(dim=1)
    return torch.stack([target, rest], dim=1)


def _among_others(log_probabilities: Tensor, is_target: Tensor) -> Tensor:
    """Return log-probabilities ``[B, classes]`` of the other classes alone; 0, which adds nothing, at the target."""
    others = functional.log_softmax(log_probabilities.masked_fill(is_target, -math.inf), dim=1)
    return others.masked_fill(is_target, 0.0)
