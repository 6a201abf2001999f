"""MobileNetV2 for small images: inverted residual blocks, tapped at their linear ends."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, cast

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from tskd_tune.contracts import STEM, Batch, BatchNormStatistics, Classified, Features
from tskd_tune.networks.base import NETWORKS, Network, statistics
from tskd_tune.networks.initialization import initialize

STEM_WIDTH = 32
LAST = 1280
# Of each group: expansion, channels at width 1, blocks, stride of the first one. The strides are those of 32 pixels.
GROUPS = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
# group -> the stage that its last block ends.
STAGES = {1: "stage1", 2: "stage2", 4: "stage3", 6: "stage4"}


class InvertedResidual(nn.Module):
    """Widen by 1x1, filter each channel by 3x3, narrow by 1x1 without an activation; around it a shortcut.

    There is a shortcut where neither the channels nor the size change.

    Source: Sandler et al., MobileNetV2 (2018), table 1; with ReLU in place of ReLU6, as in the public code.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        """Map ``inputs`` channels to ``outputs`` channels, the size divided by ``stride``."""
        super().__init__()
        wide = inputs * expansion
        self.conv = nn.Sequential(
            *_convolution(inputs, wide, 1),
            nn.ReLU(inplace=True),
            *_convolution(wide, wide, 3, stride, groups=wide),
            nn.ReLU(inplace=True),
            *_convolution(wide, outputs, 1),
        )
        self.has_shortcut = stride == 1 and inputs == outputs

    def forward(self, images: Tensor) -> Tensor:
        """Map ``[B, inputs, H, W]`` to the signed map ``[B, outputs, H / stride, W / stride]``."""
        residual: Tensor = self.conv(images)
        if self.has_shortcut:
            residual += images
        return residual


class MobileNetV2(Network):
    """An inverted residual network of 4 stages for small images of any size, with the field's parameter names.

    Stages end with the blocks of 24, 32, 96 and 320 channels (at width 1). They end without an activation, so that
    a stage's feature is its pre-activation; the ``stem`` has both. The classifier reads the mean over the positions
    of 1280 further channels, which is what the public code's pooling of 32 pixels is.

    Source: Sandler et al. (2018), table 2; strides, taps and names of the RepDistiller code (mobile_half).
    """

    def __init__(self, width: float, classes: int, channels: int = 3) -> None:
        """Give every group ``width`` times its channels."""
        super().__init__()
        widths = (int(STEM_WIDTH * width), *(int(outputs * width) for _, outputs, _, _ in GROUPS))
        last = int(LAST * max(width, 1.0))
        self.conv1 = nn.Sequential(*_convolution(channels, widths[0], 3, stride=2))
        self.blocks = nn.ModuleList(
            _group(inputs, outputs, expansion, count, stride)
            for (inputs, outputs), (expansion, _, count, stride) in zip(pairwise(widths), GROUPS, strict=True)
        )
        self.conv2 = nn.Sequential(*_convolution(widths[-1], last, 1))
        self.classifier = nn.Sequential(nn.Linear(last, classes))
        initialize(self)

    cuttable = True

    def forward(self, images: Tensor, batch: Batch | None = None, *, heads: bool = True) -> Classified | Features:
        """Map images ``[B, channels, H, W]`` to their output, or to their features alone; the batch is not read.

        ``stem`` and ``stage1`` have half the size of the images.
        """
        preactivations: dict[str, Tensor] = {STEM: self.conv1(images)}
        # Not in place: what comes before the activation is tapped too.
        features = {STEM: F.relu(preactivations[STEM])}
        maps = features[STEM]
        for number, group in enumerate(self.blocks):
            maps = group(maps)
            if number in STAGES:
                features[STAGES[number]] = preactivations[STAGES[number]] = maps
        if not heads:
            return Features(features, preactivations)
        embedding = F.relu(self.conv2(maps), inplace=True).mean(dim=(2, 3))
        return Classified(self.classifier(embedding), features, preactivations, embedding)

    def stage_norms(self) -> Mapping[str, BatchNormStatistics]:
        """Return the batch norm of the stem and, for each stage, the last one of its last block."""
        last = {stage: cast("nn.Sequential", self.blocks[number])[-1] for number, stage in STAGES.items()}
        ends = {stage: cast("InvertedResidual", block).conv[-1] for stage, block in last.items()}
        norms = {STEM: self.conv1[-1], **ends}
        return statistics({stage: cast("nn.BatchNorm2d", norm) for stage, norm in norms.items()})


def _convolution(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return convolution, nn.BatchNorm2d(outputs)


def _group(inputs: int, outputs: int, expansion: int, count: int, stride: int) -> nn.Sequential:
    first = InvertedResidual(inputs, outputs, stride, expansion)
    return nn.Sequential(first, *(InvertedResidual(outputs, outputs, 1, expansion) for _ in range(count - 1)))


@NETWORKS.register("mobilenet_v2", source="Sandler et al. 2018, arXiv 1801.04381; strides and names of RepDistiller")
def build(classes: int, channels: int = 3, *, width: Annotated[float, Field(ge=0.125)] = 0.5) -> MobileNetV2:
    """MobileNetV2 for small images with `width` times its channels; 0.5 is RepDistiller's mobile_half.

    Args:
        width: multiple of the published numbers of channels; 0.5 is RepDistiller's mobile_half.
    """
    return MobileNetV2(width, classes, channels)
