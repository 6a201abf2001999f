"""Probabilistic knowledge transfer: which samples are neighbors in the embedding (Passalis and Tefas, 2018)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import NonNegativeFloat
from torch import Tensor

from tskd_tune.contracts import Batch, Classified, Probe, exact
from tskd_tune.distillers.base import DISTILLERS, Distiller, Need

# RepDistiller's, added to norms and to probabilities.
EPSILON = 1e-7


@DISTILLERS.register("pkt", source="Passalis and Tefas 2018, arXiv 1803.10837; form and weight of RepDistiller")
class PKT(Distiller):
    """The divergence of the neighborhoods, ``weight * mean over i, j of p_t log(p_t / p_s)``.

    ``p[i, j]`` is the probability that sample j is a neighbor of sample i: the cosine of i and j, scaled to [0, 1],
    divided by the sum over j. With a batch of one sample the loss is zero.
    """

    needs = frozenset({Need.EMBEDDING})
    smallest_batch = 2

    def __init__(self, probe: Probe | None = None, *, weight: NonNegativeFloat = 30000.0) -> None:
        """Set the loss weight.

        Args:
            weight: weight of the divergence loss.
        """
        super().__init__()
        self.weight = weight

    def forward(self, student: Classified, teacher: Classified, batch: Batch) -> Mapping[str, Tensor]:
        """Return ``{"pkt": ...}`` from embeddings ``[B, D_s]`` and ``[B, D_t]``."""
        with torch.autocast(student.embedding.device.type, enabled=False):
            given, wanted = neighborhoods(exact(student.embedding)), neighborhoods(exact(teacher.embedding))
        gaps = wanted * ((wanted + EPSILON) / (given + EPSILON)).log()
        return {"pkt": self.weight * gaps.mean()}


def neighborhoods(embedding: Tensor) -> Tensor:
    """Return the probabilities of every sample's neighbors, ``[B, B]`` with rows that sum to 1, of ``[B, D]``."""
    # This norm has no gradient at zero, where a square root's would be infinite.
    lengths: Tensor = torch.linalg.vector_norm(embedding, dim=1, keepdim=True)
    directions = embedding / (lengths + EPSILON)
    nearness = (directions @ directions.T + 1) / 2
    return nearness / nearness.sum(dim=1, keepdim=True)
