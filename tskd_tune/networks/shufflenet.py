"""ShuffleNet for small images: grouped 1x1 convolutions whose channels are shuffled, in three stages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TypeAlias, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tskd_tune.contracts import STEM, BatchNormStatistics
from tskd_tune.networks.base import NETWORKS, statistics
from tskd_tune.networks.staged import Staged

GROUPS = 3
STEM_WIDTH = 24
WIDTHS = (STEM_WIDTH, 240, 480, 960)
DEPTHS = (4, 8, 4)

Stage: TypeAlias = Callable[[int, int, int], nn.Sequential]
"""Makes a stage from its depth, and from the channels before and after it."""


def shuffled(maps: Tensor, groups: int) -> Tensor:
    """Interleave ``groups`` groups of channels of ``[B, C, H, W]``, which C is a multiple of."""
    batch, channels, height, width = maps.shape
    return maps.reshape(batch, groups, channels // groups, height, width).transpose(1, 2).flatten(1, 2)


def pointwise_stem(channels: int, width: int) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    """Return the convolution and the batch norm of a stem that keeps the size of images."""
    return nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width)


def stages(make: Stage, depths: Sequence[int], widths: Sequence[int]) -> Iterator[nn.Sequential]:
    """Make the stages one after the other, each from its depth and the channels before and after it."""
    return (make(depth, *ends) for depth, ends in zip(depths, pairwise(widths), strict=True))


class Bottleneck(nn.Module):
    """A grouped 1x1 convolution, a shuffle, a 3x3 convolution of each channel and a grouped 1x1 convolution.

    A block of stride 2 is concatenated with its pooled input, one of stride 1 is added to its input.

    Source: Zhang et al., ShuffleNet (2018), figure 2 (b) and (c); with an activation after the 3x3 convolution, as
    in the public code.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, groups: int) -> None:
        """Make ``outputs`` channels, and beside them the inputs' where ``stride`` is 2; the first has ``groups``."""
        super().__init__()
        middle = outputs // 4
        self.conv1 = nn.Conv2d(inputs, middle, 1, groups=groups, bias=False)
        self.bn1 = nn.BatchNorm2d(middle)
        self.conv2 = nn.Conv2d(middle, middle, 3, stride, padding=1, groups=middle, bias=False)
        self.bn2 = nn.BatchNorm2d(middle)
        self.conv3 = nn.Conv2d(middle, outputs, 1, groups=GROUPS, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.groups = groups
        self.shrinks = stride == 2

    def forward(self, images: Tensor) -> Tensor:
        """Map ``[B, inputs, H, W]`` to what the activation reads, the sum or the concatenation."""
        residual = shuffled(F.relu(self.bn1(self.conv1(images)), inplace=True), self.groups)
        residual = F.relu(self.bn2(self.conv2(residual)), inplace=True)
        summed: Tensor = self.bn3(self.conv3(residual))
        if self.shrinks:
            return torch.cat((summed, F.avg_pool2d(images, 3, 2, padding=1)), 1)
        summed += images
        return summed


class ShuffleNet(Staged):
    """A network of grouped convolutions in 3 stages for small images of any size, with the field's parameter names.

    The stem is a 1x1 convolution that keeps the size; each stage halves it. ``features`` are taken after the
    activation, ``preactivations`` before it.

    Source: Zhang et al. (2018), table 1 with 3 groups; stem and names of the RepDistiller code (ShuffleV1).
    """

    def __init__(self, classes: int, channels: int = 3) -> None:
        """Stack 4, 8 and 4 blocks in the stages."""
        super().__init__()
        self.conv1, self.bn1 = pointwise_stem(channels, STEM_WIDTH)
        self.layer1, self.layer2, self.layer3 = stages(_stage, DEPTHS, WIDTHS)
        self.linear = nn.Linear(WIDTHS[-1], classes)

    def _classifier(self) -> nn.Linear:
        return self.linear

    def stage_norms(self) -> Mapping[str, BatchNormStatistics]:
        """Return the batch norm of the stem and, for each stage, the last one of its last block."""
        last = {stage: cast("Bottleneck", blocks[-1]) for stage, blocks in self._stages().items()}
        return statistics({STEM: self.bn1, **{stage: block.bn3 for stage, block in last.items()}})

    def _stages(self) -> dict[str, nn.Sequential]:
        return {"stage1": self.layer1, "stage2": self.layer2, "stage3": self.layer3}


def _stage(depth: int, inputs: int, outputs: int) -> nn.Sequential:
    """Stack blocks of which the first halves the size; the 24 channels of the stem are not worth grouping."""
    first = Bottleneck(inputs, outputs - inputs, 2, groups=1 if inputs == STEM_WIDTH else GROUPS)
    return nn.Sequential(first, *(Bottleneck(outputs, outputs, 1, GROUPS) for _ in range(depth - 1)))


@NETWORKS.register("shufflenet_v1", source="Zhang et al. 2018, arXiv 1707.01083; stem and names of RepDistiller")
def build(classes: int, channels: int = 3) -> ShuffleNet:
    """ShuffleNet for small images with 3 groups: RepDistiller's ShuffleV1."""
    return ShuffleNet(classes, channels)
