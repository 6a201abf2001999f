"""ReviewKD, knowledge review: deeper stages of the student are fused with shallower ones (Chen et al., 2021)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, cast

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from tskd_tune.contracts import AnyBatch, Classified, Output, Probe, exact, varying, weighted
from tskd_tune.distillers.base import DISTILLERS, Distiller, Need
from tskd_tune.distillers.padded import cropped, inside_of, normed, size_of, zeroed
from tskd_tune.distillers.stages import require_preactivations, require_stage, shared_stages
from tskd_tune.method.padding import Padding, Size
from tskd_tune.method.taps import pooled
from tskd_tune.options import DISTINCT

CONTEXTS = (4, 2, 1)
Stages = Annotated[list[str], Field(min_length=1), DISTINCT]


class Fusion(nn.Module):
    """The attention-based fusion of a stage with the fused map of the deeper stages.

    The deepest stage has no deeper map and no attention.
    """

    def __init__(self, inputs: int, inner: int, outputs: int, *, deepest: bool) -> None:
        """Map ``inputs`` channels to ``inner`` channels, which are fused, and these to the teacher's ``outputs``."""
        super().__init__()
        self.entry = _with_norm(nn.Conv2d(inputs, inner, 1, bias=False))
        self.attention = None if deepest else nn.Conv2d(2 * inner, 2, 1)
        self.exit = _with_norm(nn.Conv2d(inner, outputs, 3, padding=1, bias=False))

    def forward(
        self, features: Tensor, deeper: Tensor | None, size: Size, padding: Padding | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the map for the teacher's stage, ``[B, outputs, *size]``, and the fused map for the next stage.

        Args:
            features: the student's, ``[B, inputs, H, W]``.
            deeper: the fused map of the deeper stages, ``[B, inner, H', W']``; None for the deepest stage.
            size: of the teacher's map.
            padding: what of the maps is padding, for images of different sizes: no map of an image depends on it.
        """
        fused = _normed(self.entry, features, padding)
        if self.attention is not None and deeper is not None:
            deeper = _resized(deeper, (fused.shape[-2], fused.shape[-1]))
            own, other = self.attention(torch.cat([fused, deeper], dim=1)).sigmoid().split(1, dim=1)
            fused = own * fused + other * deeper
        fused = _resized(fused, size)
        return _normed(self.exit, fused, padding), fused


@DISTILLERS.register("review_kd", source="Chen et al. 2021, arXiv 2104.09044; modules and weights of the authors' code")
class ReviewKD(Distiller[Output]):
    """Sum of the hierarchical context losses between the student's fused stages and the teacher's pre-activations.

    The stages, without the stem, are followed by the pooled embeddings as maps of one pixel. The student's maps are
    resized to the teacher's size by nearest pixels. (The authors' ImageNet code takes the student's pre-activations as
    input; their CIFAR code, as here, takes the student's features.)

    With ``stages``, as in the authors' detection code, these stages alone are fused, and compared with the teacher's
    features: the levels of a detector's pyramid, of 256 channels, with a weight of 1.0 to 2.0 and no warm-up. Of images
    of different sizes the padding counts neither in the batch norms nor in the loss, which is the mean over the images
    of each image's loss.
    """

    needs = frozenset({Need.FEATURES, Need.PREACTIVATIONS, Need.EMBEDDING})
    smallest_batch = 2
    in_pieces = True
    masks = True
    factor: Tensor

    @classmethod
    def needs_with(cls, **options: Any) -> frozenset[Need]:
        """Return the needs: stages that are named are compared without embedding and pre-activations."""
        return cls.needs if options.get("stages") is None else frozenset({Need.FEATURES})

    def __init__(
        self,
        probe: Probe,
        *,
        stages: Stages | None = None,
        max_channels: PositiveInt = 512,
        warmup: NonNegativeInt = 20,
        weight: NonNegativeFloat = 1.0,
    ) -> None:
        """Set the stages, the largest number of channels of fused maps, the length of the warm-up and the loss weight.

        The fused maps have as many channels as the student's embedding, or as the last of ``stages``, but
        ``max_channels`` at most. The weight rises by equal steps from 0 in epoch 0, as in the authors' code (in
        mdistiller one step later), to its full value in epoch ``warmup``.

        Args:
            stages: the stages, of both networks, whose features are compared, shallow to deep: for a detector the
                levels of its pyramid, ``[fpn0, fpn1, fpn2, fpn3, fpn_pool]``; null: all stages but the stem, whose
                pre-activations of the teacher are compared, and the embedding, for classifiers.
            max_channels: largest number of channels in which maps are fused; the number is that of the student's
                embedding, or of the last of ``stages``, where that is smaller.
            warmup: epochs in which the weight rises by equal steps, from 0 in epoch 0 to its full value in epoch
                ``warmup``; 0: full weight from epoch 0.
            weight: weight of the distillation loss.

        Raises:
            InputError: the teacher lacks a stage of the student, or its pre-activation.
        """
        super().__init__()
        self.stages = shared_stages(probe, "review_kd") if stages is None else tuple(stages)
        self.needs = self.needs_with(stages=stages)
        self._classifies = stages is None
        inputs, outputs = self._channels(probe)
        inner = min(inputs[-1], max_channels)
        self.fusions = nn.ModuleList(
            Fusion(given, inner, wanted, deepest=depth == len(inputs) - 1)
            for depth, (given, wanted) in enumerate(zip(inputs, outputs, strict=True))
        )
        if not self._classifies:
            _, height, width = probe.student.features[self.stages[-1]]
            self.smallest_batch = 1 if height * width > 1 else 2
        self.weight = weight
        self.warmup = warmup
        self.register_buffer("factor", varying(self._factor(0)), persistent=False)

    def begin_epoch(self, epoch: int, random: torch.Generator) -> None:
        """Set the weight of the epoch."""
        self.factor.fill_(self._factor(epoch))

    def forward(self, student: Output, teacher: Output, batch: AnyBatch) -> Mapping[str, Tensor]:
        """Return ``{"review_kd": ...}`` from maps ``[B, C, H, W]`` and embeddings ``[B, D]``."""
        padding = Padding.of(batch)
        losses, deeper = [], None
        for fusion, ours, theirs in reversed(list(zip(self.fusions, *self._maps(student, teacher), strict=True))):
            guess, deeper = fusion(ours, deeper, size_of(theirs), padding)
            losses.append(_context_loss(guess, theirs, padding))
        return {"review_kd": weighted(self.factor, sum(losses[1:], losses[0]))}

    def _channels(self, probe: Probe) -> tuple[list[int], list[int]]:
        """Return the channels of the student's maps and of the teacher's, shallow to deep."""
        student, teacher = probe.student, probe.teacher
        if not self._classifies:
            for stage in self.stages:
                require_stage(probe, stage, "review_kd")
            return [student.features[one][0] for one in self.stages], [teacher.features[one][0] for one in self.stages]
        require_preactivations(teacher, self.stages, "review_kd", "teacher")
        inputs = [student.features[stage][0] for stage in self.stages]
        outputs = [teacher.preactivations[stage][0] for stage in self.stages]
        return [*inputs, *student.embedding], [*outputs, *teacher.embedding]

    def _maps(self, student: Output, teacher: Output) -> tuple[list[Tensor], list[Tensor]]:
        """Return the maps ``[B, C, H, W]`` that are compared, shallow to deep."""
        given = [student.features[stage] for stage in self.stages]
        if not self._classifies:
            return given, [teacher.features[stage] for stage in self.stages]
        wanted = [teacher.preactivations[stage] for stage in self.stages]
        ours, theirs = (cast("Classified", output).embedding for output in (student, teacher))  # as the needs say
        return [*given, ours[..., None, None]], [*wanted, theirs[..., None, None]]

    def _factor(self, epoch: int) -> float:
        share = min(1.0, epoch / self.warmup) if self.warmup else 1.0
        return share * self.weight


def _context_loss(given: Tensor, wanted: Tensor, padding: Padding | None) -> Tensor:
    """Return the context loss of a batch; of padded images the mean of each image's."""
    if padding is None:
        return hierarchical_context_loss(given, wanted)
    pairs = zip(cropped(given, padding), cropped(wanted, padding), strict=True)
    return torch.stack([hierarchical_context_loss(*pair) for pair in pairs]).mean()


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


def _normed(layers: nn.Sequential, maps: Tensor, padding: Padding | None) -> Tensor:
    """Apply a convolution that keeps the size, and its batch norm; the padding counts in neither."""
    convolution, norm = layers
    inside = inside_of(maps, padding)
    return normed(norm, convolution(zeroed(maps, inside)), inside)


def _with_norm(convolution: nn.Conv2d) -> nn.Sequential:
    nn.init.kaiming_uniform_(convolution.weight, a=1)
    return nn.Sequential(convolution, nn.BatchNorm2d(convolution.out_channels))


def _resized(map_: Tensor, size: Size) -> Tensor:
    return map_ if (map_.shape[-2], map_.shape[-1]) == size else functional.interpolate(map_, size, mode="nearest")
