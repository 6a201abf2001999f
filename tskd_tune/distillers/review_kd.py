"""ReviewKD, knowledge review: deeper stages of the student are fused with shallower ones (Chen et al., 2021)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from tskd_tune.contracts import Batch, Classified, Probe, exact, varying, weighted
from tskd_tune.distillers.base import DISTILLERS, Distiller, Need
from tskd_tune.distillers.stages import require_preactivations, shared_stages
from tskd_tune.method.taps import Size, pooled

CONTEXTS = (4, 2, 1)


class Fusion(nn.Module):
    """The attention-based fusion of a stage with the fused map of the deeper stages.

    The deepest stage has no deeper map and no attention.
    """

    def __init__(self, inputs: int, inner: int, outputs: int, *, deepest: bool) -> None:
        """Map ``inputs`` channels to ``inner`` channels, which are fused, and these to the teacher's ``outputs``."""
        super().__init__()
        self.entry = _normed(nn.Conv2d(inputs, inner, 1, bias=False))
        self.attention = None if deepest else nn.Conv2d(2 * inner, 2, 1)
        self.exit = _normed(nn.Conv2d(inner, outputs, 3, padding=1, bias=False))

    def forward(self, features: Tensor, deeper: Tensor | None, size: Size) -> tuple[Tensor, Tensor]:
        """Return the map for the teacher's stage, ``[B, outputs, *size]``, and the fused map for the next stage.

        Args:
            features: the student's, ``[B, inputs, H, W]``.
            deeper: the fused map of the deeper stages, ``[B, inner, H', W']``; None for the deepest stage.
            size: of the teacher's map.
        """
        fused: Tensor = self.entry(features)
        if self.attention is not None and deeper is not None:
            deeper = _resized(deeper, (fused.shape[-2], fused.shape[-1]))
            own, other = self.attention(torch.cat([fused, deeper], dim=1)).sigmoid().split(1, dim=1)
            fused = own * fused + other * deeper
        fused = _resized(fused, size)
        return self.exit(fused), fused


@DISTILLERS.register("review_kd", source="Chen et al. 2021, arXiv 2104.09044; modules and weights of the authors' code")
class ReviewKD(Distiller):
    """Sum of the hierarchical context losses between the student's fused stages and the teacher's pre-activations.

    The stages, without the stem, are followed by the pooled embeddings as maps of one pixel. The student's maps are
    resized to the teacher's size by nearest pixels. (The authors' ImageNet code takes the student's pre-activations as
    input; their CIFAR code, as here, takes the student's features.)
    """

    needs = frozenset({Need.FEATURES, Need.PREACTIVATIONS, Need.EMBEDDING})
    smallest_batch = 2
    factor: Tensor

    def __init__(
        self,
        probe: Probe,
        *,
        max_channels: PositiveInt = 512,
        warmup: NonNegativeInt = 20,
        weight: NonNegativeFloat = 1.0,
    ) -> None:
        """Set the largest number of channels of fused maps, the length of the warm-up and the loss weight.

        The fused maps have as many channels as the student's embedding, ``max_channels`` at most. The weight rises
        by equal steps from 0 in epoch 0, as in the authors' code (in mdistiller one step later), to its full value in
        epoch ``warmup``.

        Args:
            max_channels: largest number of channels in which maps are fused; the number is that of the student's
                embedding where that is smaller.
            warmup: epochs in which the weight rises by equal steps, from 0 in epoch 0 to its full value in epoch
                ``warmup``; 0: full weight from epoch 0.
            weight: weight of the distillation loss.

        Raises:
            InputError: the teacher lacks a stage of the student, or its pre-activation.
        """
        super().__init__()
        self.stages = shared_stages(probe, "review_kd")
        require_preactivations(probe.teacher, self.stages, "review_kd", "teacher")
        (embedded,) = probe.student.embedding
        inputs = [probe.student.features[stage][0] for stage in self.stages] + [embedded]
        outputs = [probe.teacher.preactivations[stage][0] for stage in self.stages] + [probe.teacher.embedding[0]]
        self.fusions = nn.ModuleList(
            Fusion(given, min(embedded, max_channels), wanted, deepest=depth == len(self.stages))
            for depth, (given, wanted) in enumerate(zip(inputs, outputs, strict=True))
        )
        self.weight = weight
        self.warmup = warmup
        self.register_buffer("factor", varying(self._factor(0)), persistent=False)

    def begin_epoch(self, epoch: int, random: torch.Generator) -> None:
        """Set the weight of the epoch."""
        self.factor.fill_(self._factor(epoch))

    def forward(self, student: Classified, teacher: Classified, batch: Batch) -> Mapping[str, Tensor]:
        """Return ``{"review_kd": ...}`` from maps ``[B, C, H, W]`` and embeddings ``[B, D]``."""
        given = [*(student.features[stage] for stage in self.stages), student.embedding[..., None, None]]
        wanted = [*(teacher.preactivations[stage] for stage in self.stages), teacher.embedding[..., None, None]]
        losses, deeper = [], None
        for fusion, ours, theirs in reversed(list(zip(self.fusions, given, wanted, strict=True))):
            guess, deeper = fusion(ours, deeper, (theirs.shape[-2], theirs.shape[-1]))
            losses.append(hierarchical_context_loss(guess, theirs))
        return {"review_kd": weighted(self.factor, sum(losses[1:], losses[0]))}

    def _factor(self, epoch: int) -> float:
        share = min(1.0, epoch / self.warmup) if self.warmup else 1.0
        return share * self.weight


def hierarchical_context_loss(given: Tensor, wanted: Tensor) -> Tensor:
    """Return the weighted mean of squared differences at full size and pooled to 4x4, 2x2 and 1 pixels.

    Each size has half the weight of the size before; sizes that are not smaller than the map are left out.

    Args:
        given: ``[B, C, H, W]``.
        wanted: of the same shape.
    """
    sizes = [size for size in CONTEXTS if size < min(given.shape[-2:])]
    given, wanted = exact(given), exact(wanted)
    loss, total = functional.mse_loss(given, wanted), 1.0
    for number, size in enumerate(sizes, start=1):
        loss = loss + functional.mse_loss(pooled(given, (size, size)), pooled(wanted, (size, size))) / 2**number
        total += 1 / 2**number
    return loss / total


def _normed(convolution: nn.Conv2d) -> nn.Sequential:
    nn.init.kaiming_uniform_(convolution.weight, a=1)
    return nn.Sequential(convolution, nn.BatchNorm2d(convolution.out_channels))


def _resized(map_: Tensor, size: Size) -> Tensor:
    return map_ if (map_.shape[-2], map_.shape[-1]) == size else functional.interpolate(map_, size, mode="nearest")
