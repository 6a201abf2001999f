"""Relational knowledge distillation: distances and angles among the samples of a batch (Park et al., 2019)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from pydantic import NonNegativeFloat
from torch import Tensor
from torch.nn import functional

from tskd_tune.contracts import Batch, Classified, Probe, exact
from tskd_tune.distillers.base import DISTILLERS, Distiller, Need


@DISTILLERS.register("rkd", source="Park et al. 2019, arXiv 1904.05068; form and weights of RepDistiller")
class RKD(Distiller):
    """Compare distances and angles, ``weight * (distance * L_D + angle * L_A)``.

    ``L_D`` is the mean Huber loss of all B^2 distances, in units of their mean over different samples;
    ``L_A`` is the mean Huber loss of all B^3 cosines of the angle at one sample between two others. As in RepDistiller,
    both means include pairs and triples in which a sample occurs twice. If two samples are at the same place, their
    cosines are zero and have no gradient. With a batch of one or two samples the loss is zero.
    """

    needs = frozenset({Need.EMBEDDING})
    smallest_batch = 3

    def __init__(
        self,
        probe: Probe | None = None,
        *,
        distance: NonNegativeFloat = 25.0,
        angle: NonNegativeFloat = 50.0,
        weight: NonNegativeFloat = 1.0,
    ) -> None:
        """Set the weights of the distances and of the angles, and the weight of the whole loss.

        Args:
            distance: weight of the distances between two samples.
            angle: weight of the angles among three samples.
            weight: weight of both together.
        """
        super().__init__()
        self.distance = distance
        self.angle = angle
        self.weight = weight

    def forward(self, student: Classified, teacher: Classified, batch: Batch) -> Mapping[str, Tensor]:
        """Return ``{"rkd": ...}`` from embeddings ``[B, D_s]`` and ``[B, D_t]``."""
        with torch.autocast(student.embedding.device.type, enabled=False):
            distances, cosines = relations(exact(student.embedding))
            wanted_distances, wanted_cosines = relations(exact(teacher.embedding))
        of_distances = functional.smooth_l1_loss(distances, wanted_distances)
        of_angles = functional.smooth_l1_loss(cosines, wanted_cosines)
        return {"rkd": self.weight * (self.distance * of_distances + self.angle * of_angles)}


def relations(embedding: Tensor) -> tuple[Tensor, Tensor]:
    """Return the relative distances ``[B, B]`` and the cosines ``[B, B, B]`` among embeddings ``[B, D]``.

    The cosine at ``[i, j, k]`` is that of the angle at sample i between samples j and k.
    """
    # Differences, not inner products, whose cancellation would spoil small distances; cosines need them anyway.
    differences = embedding.unsqueeze(0) - embedding.unsqueeze(1)
    distances = torch.linalg.vector_norm(differences, dim=2)
    directions = differences / _infinite_where_zero(distances).unsqueeze(2)
    pairs = max(1, len(embedding) * (len(embedding) - 1))
    return distances / _infinite_where_zero(distances.sum() / pairs), directions @ directions.mT


def _infinite_where_zero(lengths: Tensor) -> Tensor:
    """Return divisors by which zero stays zero and passes no gradient."""
    return lengths.masked_fill(lengths == 0, math.inf)
