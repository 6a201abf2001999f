"""Contrastive representation distillation of embeddings (Tian et al., 2020)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from tskd_tune.contracts import Batch, Classified, Probe, exact
from tskd_tune.distillers.base import DISTILLERS, Distiller, Need
from tskd_tune.distillers.negatives import Negatives
from tskd_tune.errors import RunError

# A product with the whole bank is faster than gathering the rows of each anchor, up to banks of about fifty times as
# many samples as an anchor is compared with: on one CPU thread 20 times as fast at a ratio of 3, 2 at 49, 0.6 at 98.
WHOLE_BANK = 50


@DISTILLERS.register("crd", source="Tian et al. 2020, arXiv 1910.10699; exact mode and weights of RepDistiller")
class CRD(Distiller):
    """Tell the other network's embedding of the same sample from K negatives of other classes, in both directions.

    Each network's embedding is projected linearly and scaled to length 1. The projection is compared with a bank that
    holds the other network's projections of all N training samples. With ``p = exp(similarity / temperature) / Z`` a
    direction's loss is ``-log h`` of the sample itself and ``-log(1 - h)`` summed over the negatives, ``h = p / (p + K
    / N)``, a mean over the batch; ``Z``, N times the mean of the exponentials, is fixed by the first batch, as in
    RepDistiller. Everything is computed in logarithms, which need no epsilon; RepDistiller adds 1e-7 to ``K / N``.
    The two banks are kept on the device: 1.3 GB for the 1.28 million images of ImageNet.

    Attributes:
        student_bank: the students' projections, ``[N, dimension]``; in the checkpoint, as is ``teacher_bank``.
        log_normalizers: ``log Z`` with the student as anchor and with the teacher; infinite before the first batch.
    """

    needs = frozenset({Need.EMBEDDING, Need.INDICES})
    student_bank: Tensor
    teacher_bank: Tensor
    log_normalizers: Tensor

    def __init__(
        self,
        probe: Probe,
        *,
        dimension: PositiveInt = 128,
        negatives: PositiveInt = 16384,
        temperature: PositiveFloat = 0.07,
        momentum: Annotated[float, Field(ge=0, lt=1)] = 0.5,
        weight: NonNegativeFloat = 0.8,
    ) -> None:
        """Set the dimension of the projections, K, the temperature, the momentum of the banks and the loss weight.

        Args:
            dimension: length of the projected embeddings.
            negatives: K, the number of samples of other classes that each sample is told apart from; where there are
                fewer, they repeat.
            temperature: the divisor of the similarities before the exponential; smaller values are sharper.
            momentum: share of an entry of a bank that stays when the entry is updated.
            weight: weight of the contrastive loss.

        Raises:
            InputError: all training samples are of one class.
        """
        super().__init__()
        self.student_projection = nn.Linear(probe.student.embedding[0], dimension)
        self.teacher_projection = nn.Linear(probe.teacher.embedding[0], dimension)
        bound = math.sqrt(3 / dimension)
        self.register_buffer("student_bank", torch.empty(probe.samples, dimension).uniform_(-bound, bound))
        self.register_buffer("teacher_bank", torch.empty(probe.samples, dimension).uniform_(-bound, bound))
        self.register_buffer("log_normalizers", torch.full((2,), math.inf))
        self.negatives = Negatives(probe.targets, negatives, "crd")
        self.temperature = temperature
        self.momentum = momentum
        self.weight = weight
        self._random: torch.Generator | None = None

    def begin_epoch(self, epoch: int, random: torch.Generator) -> None:
        """Draw the seed of the epoch's negatives, which are drawn on the device of the banks."""
        seed = int(torch.randint(2**63 - 1, (), generator=random))
        if self._random is None or self._random.device != self.student_bank.device:
            self._random = torch.Generator(self.student_bank.device)
        self._random.manual_seed(seed)

    def generators(self) -> Sequence[torch.Generator]:
        """Return the generator of the epoch's negatives."""
        return () if self._random is None else (self._random,)

    def forward(self, student: Classified, teacher: Classified, batch: Batch) -> Mapping[str, Tensor]:
        """Return ``{"crd": ...}`` from embeddings ``[B, D_s]`` and ``[B, D_t]``, and move the banks' entries.

        Raises:
            RunError: no epoch was begun.
        """
        if self._random is None:
            raise RunError("distiller: 'crd' draws from an epoch's own stream; call begin_epoch before its first batch")
        chosen = self.negatives.draw(batch.indices, self._random)
        return {"crd": self.weight * self.contrast(student.embedding, teacher.embedding, batch.indices, chosen)}

    def contrast(self, student: Tensor, teacher: Tensor, indices: Tensor, negatives: Tensor) -> Tensor:
        """Return the unweighted loss of given negatives, a scalar, and move the banks' entries.

        Args:
            student: embeddings ``[B, D_s]``.
            teacher: embeddings ``[B, D_t]``.
            indices: the samples' own ``[B]``.
            negatives: those of each sample's negatives, ``[B, K]``.
        """
        chosen = torch.cat([indices.unsqueeze(1), negatives], dim=1)
        with torch.autocast(student.device.type, enabled=False):
            ours = functional.normalize(self.student_projection(exact(student)), dim=1)
            theirs = functional.normalize(self.teacher_projection(exact(teacher)), dim=1)
            loss = self._direction(0, ours, self.teacher_bank, chosen)
            loss = loss + self._direction(1, theirs, self.student_bank, chosen)
            self._remember(self.student_bank, indices, ours.detach())
            self._remember(self.teacher_bank, indices, theirs.detach())
        return loss

    def _direction(self, number: int, anchors: Tensor, bank: Tensor, chosen: Tensor) -> Tensor:
        scores = similarities(anchors / self.temperature, bank, chosen)
        samples, compared = len(bank), chosen.shape[1] - 1
        fresh = scores.detach().logsumexp((0, 1)) + math.log(samples / scores.numel())
        settled = self.log_normalizers[number]
        log_normalizer = torch.where(settled.isinf(), fresh, settled)  # a condition in Python would wait for the GPU
        self.log_normalizers[number] = log_normalizer
        odds = scores - (log_normalizer + math.log(compared / samples))
        found, told_apart = functional.logsigmoid(odds[:, 0]), functional.logsigmoid(-odds[:, 1:])
        return -(found.sum() + told_apart.sum()) / len(anchors)

    @torch.no_grad()
    def _remember(self, bank: Tensor, indices: Tensor, projections: Tensor) -> None:
        """Move the bank's entries of a batch towards its projections; if a sample occurs twice, the last one counts."""
        mixed = self.momentum * bank[indices] + (1 - self.momentum) * projections
        places = torch.arange(1, len(indices) + 1, device=indices.device)
        last = ((indices.unsqueeze(1) == indices) * places).argmax(dim=1)
        bank.index_copy_(0, indices, functional.normalize(mixed, dim=1)[last])


def similarities(anchors: Tensor, bank: Tensor, chosen: Tensor) -> Tensor:
    """Return the inner products of anchors ``[B, d]`` with chosen entries ``[B, M]`` of a bank ``[N, d]``, ``[B, M]``.

    The bank may change before the backward pass.
    """
    if len(bank) <= WHOLE_BANK * chosen.shape[1]:
        products = anchors @ bank.clone().T
        if not products.is_cuda:
            return products.gather(1, chosen)
        # The same numbers. On a GPU the backward pass of gather adds in any order what was chosen more than once.
        return products[torch.arange(len(chosen), device=chosen.device).unsqueeze(1), chosen]
    return (bank[chosen] @ anchors.unsqueeze(2)).squeeze(2)
