"""ShuffleNet for small images: grouped 1x1 convolutions whose channels are shuffled, in three stages."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import cast

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


def shuffled(maps: Tensor, groups: int) -> Tensor:
    """Interleave ``groups`` groups of channels of ``[B, C, H, W]``, which C is a multiple of."""
    batch, channels, *size = maps.shape
    return maps.reshape(batch, groups, channels // groups, *size).transpose(1, 2).flatten(1, 2)


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
        residual = self.bn3(self.conv3(residual))
        return torch.cat((residual, F.avg_pool2d(images, 3, 2, padding=1)), 1) if self.shrinks else residual + images


class ShuffleNet(Staged):
    """A network of grouped convolutions in 3 stages for small images of any size, with the field's parameter names.

    The stem is a 1x1 convolution that keeps the size; each stage halves it. ``features`` are taken after the
    activation, ``preactivations`` before it.

    Source: Zhang et al. (2018), table 1 with 3 groups; stem and names of the RepDistiller code (ShuffleV1).
    """

    def __init__(self, classes: int, channels: int = 3) -> None:
        """Stack 4, 8 and 4 blocks in the stages."""
        super().__init__()
        self.conv1 = nn.Conv2d(channels, STEM_WIDTH, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM_WIDTH)
        stages = (_stage(depth, *widths) for depth, widths in zip(DEPTHS, pairwise(WIDTHS), strict=True))
        self.layer1, self.layer2, self.layer3 = stages
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
