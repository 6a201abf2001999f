"""A comprehensive overhaul of feature distillation: pre-activations behind a margin ReLU (Heo et al., 2019)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from pydantic import NonNegativeFloat
from torch import Tensor, nn

from tskd_tune.contracts import Batch, BatchNormStatistics, Classified, Probe, exact
from tskd_tune.distillers.base import DISTILLERS, Distiller, Need
from tskd_tune.distillers.stages import require_preactivations, shared_stages
from tskd_tune.errors import InputError
from tskd_tune.method.taps import pooled

# A channel with less than this probability below zero gets a margin of three deviations instead.
RARE = 1e-3


class Connector(nn.Module):
    """A 1x1 convolution and a batch norm to the teacher's channels, then the partial L2 distance.

    Attributes:
        margin: ``[C_t, 1, 1]``, negative; smaller values of the teacher are set to the margin.
    """

    margin: Tensor

    def __init__(self, inputs: int, norm: BatchNormStatistics) -> None:
        """Map ``inputs`` channels to those of the teacher's batch norm."""
        super().__init__()
        outputs = len(norm.weight)
        convolution = nn.Conv2d(inputs, outputs, 1, bias=False)
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
        self.connector = nn.Sequential(convolution, nn.BatchNorm2d(outputs))
        self.register_buffer("margin", expected_negatives(norm).view(-1, 1, 1))

    def forward(self, given: Tensor, wanted: Tensor) -> Tensor:
        """Return the distance of pre-activations ``[B, C_s, H, W]`` and ``[B, C_t, H', W']``.

        The distance is summed over channels and pixels and averaged over the batch. The teacher's map is pooled to the
        student's size, as in mdistiller; if the teacher's map is smaller, its pixels are repeated.
        """
        guess = exact(self.connector(given))
        target = torch.maximum(pooled(exact(wanted), (guess.shape[-2], guess.shape[-1])), self.margin)
        # Where neither fires, a student below its target is as good as one that meets it.
        counts = (guess > target) | (target > 0)
        return ((guess - target).square() * counts).sum() / len(guess)


@DISTILLERS.register("ofd", source="Heo et al. 2019, arXiv 1904.01866; connectors and weight of the authors' code")
class OFD(Distiller):
    """Sum over the stages, without the stem, of the partial distances; each has half the weight of the next deeper one.

    The authors sum over everything and divide by the batch size and by 1000. mdistiller averages over the batch, sums
    over the rest and multiplies by 0.001. Both give the same number as this class.
    """

    needs = frozenset({Need.PREACTIVATIONS, Need.BATCH_NORMS})
    in_pieces = True

    def __init__(self, probe: Probe, *, weight: NonNegativeFloat = 0.001) -> None:
        """Set the weight of the deepest stage.

        Args:
            weight: weight of the distance at the deepest stage; each stage before has half the weight of the next.

        Raises:
            InputError: a network lacks a stage or its pre-activation, or the teacher a stage's batch norm.
        """
        super().__init__()
        self.stages = shared_stages(probe, "ofd")
        require_preactivations(probe.student, self.stages, "ofd", "student")
        require_preactivations(probe.teacher, self.stages, "ofd", "teacher")
        self.connectors = nn.ModuleList(
            Connector(probe.student.preactivations[stage][0], _norm(probe, stage)) for stage in self.stages
        )
        self.weight = weight

    def forward(self, student: Classified, teacher: Classified, batch: Batch) -> Mapping[str, Tensor]:
        """Return ``{"ofd": ...}`` from pre-activations ``[B, C, H, W]``."""
        gaps = [
            connector(student.preactivations[stage], teacher.preactivations[stage])
            / 2 ** (len(self.stages) - 1 - number)
            for number, (stage, connector) in enumerate(zip(self.stages, self.connectors, strict=True))
        ]
        return {"ofd": self.weight * sum(gaps[1:], gaps[0])}


def expected_negatives(norm: BatchNormStatistics) -> Tensor:
    """Return ``E[x | x < 0]`` of each channel, ``[C]``, for a normal x with mean ``bias`` and deviation ``weight``.

    A batch norm before a residual sum normalizes one addend only; the authors' code uses this batch norm too.

    Source: Heo et al. (2019); for channels that are hardly ever negative, the authors' code.
    """
    # Without deviation the quotient is infinite, and the margin its limit: the mean, or zero.
    deviation, mean = norm.weight.double().abs(), norm.bias.double()
    share = torch.special.ndtr(-mean / deviation)
    density = torch.exp(-((mean / deviation) ** 2) / 2) / math.sqrt(2 * math.pi)
    return torch.where(share > RARE, mean - deviation * density / share, -3 * deviation).to(norm.weight.dtype)


def _norm(probe: Probe, stage: str) -> BatchNormStatistics:
    if stage not in probe.teacher_norms:
        raise InputError(
            f"distiller: 'ofd' takes its margins from the teacher's batch norms, but '{stage}' has none before its"
            f" pre-activation (known: {', '.join(probe.teacher_norms) or 'none'}); choose another teacher or distiller"
        )
    return probe.teacher_norms[stage]
