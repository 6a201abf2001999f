"""Show, attend and distill: attention decides which student stage follows which teacher stage (Ji et al., 2021)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from tskd_tune.contracts import Batch, Classified, Probe, exact
from tskd_tune.distillers.base import DISTILLERS, Distiller, Need
from tskd_tune.distillers.softening import divergences
from tskd_tune.distillers.stages import own_stages
from tskd_tune.method.padding import Size
from tskd_tune.method.taps import pooled


class StageAttention(nn.Module):
    """How strongly each student stage follows each teacher stage, for each sample."""

    def __init__(self, student: Sequence[int], teacher: Sequence[int], dimension: int) -> None:
        """Attend from the teacher's stages to the student's, given the channels of each, in ``dimension`` numbers."""
        super().__init__()
        self.keys = nn.ModuleList(nn.Sequential(*_projection(inputs, dimension), nn.ReLU()) for inputs in student)
        self.queries = nn.ModuleList(nn.Sequential(*_projection(inputs, dimension)) for inputs in teacher)
        self.bilinear = nn.Sequential(*_projection(dimension, dimension * len(teacher)))
        self.student_places = nn.Parameter(torch.empty(len(student), dimension))
        self.teacher_places = nn.Parameter(torch.empty(len(teacher), dimension))
        nn.init.xavier_normal_(self.student_places)
        nn.init.xavier_normal_(self.teacher_places)

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """Return shares ``[B, T, S]``, which sum to 1 over the student's stages, of maps ``[B, C, H, W]``."""
        keys = torch.stack([key(map_.mean((2, 3))) for key, map_ in zip(self.keys, student, strict=True)], dim=1)
        queries = torch.stack([query(map_.mean((2, 3))) for query, map_ in zip(self.queries, teacher, strict=True)], 1)
        batch, count, dimension = keys.shape
        # One batch norm over all samples and stages, as in the authors' code.
        towards = self.bilinear(keys.flatten(0, 1)).view(batch, count, len(teacher), dimension)
        # Products and sums, which autocast leaves in float32.
        likeness = (exact(towards) * exact(queries).unsqueeze(1)).sum(3).transpose(1, 2)
        places = (self.teacher_places.unsqueeze(1) * self.student_places).sum(2)
        return functional.softmax((likeness + places) / math.sqrt(dimension), dim=2)


@DISTILLERS.register("sad", source="Ji et al. 2021, arXiv 2102.02973; modules and weights of the authors' code")
class SAD(Distiller):
    """Squared differences of spatial maps between all pairs of stages, weighted by attention, plus softened logits.

    A spatial map is the mean over the channels of squared features, pooled to the teacher's size, of length 1.

    The authors attend over the output of every block. Here the candidates are the tapped stages without the stem; the
    networks may have different numbers of stages. The loss is a sum over the teacher's stages, so the same weight has
    less effect with 3 stages than with 18 blocks. Wide residual nets are tapped at their raw sums; the authors tap them
    after the activation.
    """

    needs = frozenset({Need.FEATURES, Need.LOGITS})
    smallest_batch = 2
    in_pieces = True

    @classmethod
    def needs_with(cls, **options: Any) -> frozenset[Need]:
        """Return features, and logits unless their weight is zero."""
        return cls.needs if options["kd_weight"] else frozenset({Need.FEATURES})

    def __init__(
        self,
        probe: Probe,
        *,
        dimension: PositiveInt = 128,
        weight: NonNegativeFloat = 200.0,
        kd_weight: NonNegativeFloat = 0.9,
        temperature: PositiveFloat = 4.0,
        task_weight: NonNegativeFloat = 1.0,
    ) -> None:
        """Set the length of keys and queries, and the weights of the maps, of the softened logits and of the task.

        Args:
            dimension: length of the attention's keys and queries.
            weight: weight of the spatial maps' loss.
            kd_weight: weight of the divergence of the softened logits; 0: no loss of logits.
            temperature: T, the divisor of both networks' logits before the softmax; a larger T gives softer
                probabilities.
            task_weight: weight of the task's own loss, the cross-entropy.

        Raises:
            InputError: a network has no stage behind its stem.
        """
        super().__init__()
        self.needs = self.needs_with(kd_weight=kd_weight)
        self.student_stages = own_stages(probe.student, "sad", "student")
        self.teacher_stages = own_stages(probe.teacher, "sad", "teacher")
        self.attention = StageAttention(
            [probe.student.features[stage][0] for stage in self.student_stages],
            [probe.teacher.features[stage][0] for stage in self.teacher_stages],
            dimension,
        )
        self.weight = weight
        self.kd_weight = kd_weight
        self.temperature = temperature
        self.task_weight = task_weight

    def forward(self, student: Classified, teacher: Classified, batch: Batch) -> Mapping[str, Tensor]:
        """Return ``{"sad": ..., "kd": ...}`` from features ``[B, C, H, W]`` and logits ``[B, classes]``."""
        losses = {"sad": self.weight * self._gaps(student, teacher)}
        if self.kd_weight:
            gaps = divergences(student.logits, teacher.logits, self.temperature)
            losses["kd"] = self.kd_weight * self.temperature**2 * gaps.mean()
        return losses

    def _gaps(self, student: Classified, teacher: Classified) -> Tensor:
        given = [exact(student.features[stage]) for stage in self.student_stages]
        wanted = [exact(teacher.features[stage]) for stage in self.teacher_stages]
        gaps = torch.stack([_map_gaps(given, map_) for map_ in wanted], dim=1)
        shares: Tensor = self.attention(given, wanted)
        return (shares * gaps).sum((1, 2)).mean()


def _projection(inputs: int, outputs: int) -> tuple[nn.Module, nn.Module]:
    return nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs)


def _map_gaps(given: Sequence[Tensor], wanted: Tensor) -> Tensor:
    """Return the mean squared gaps ``[B, S]`` of S student stages ``[B, C, H, W]`` to one stage of the teacher."""
    size = wanted.shape[-2], wanted.shape[-1]
    target = _spatial_map(wanted, size)
    return torch.stack([(_spatial_map(map_, size) - target).square().mean(1) for map_ in given], dim=1)


def _spatial_map(features: Tensor, size: Size) -> Tensor:
    """Return the energy ``[B, H * W]`` of features ``[B, C, H', W']``, of length 1."""
    energy = features.square().mean(1, keepdim=True)
    return functional.normalize(pooled(energy, size).flatten(1), dim=1)
