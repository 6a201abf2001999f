"""MobileNetV1 for ImageNet: depthwise separable convolutions, tapped where their sizes are those of a ResNet."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from tskd_tune.contracts import STEM, Batch, BatchNormStatistics, Classified, Features
from tskd_tune.networks.base import NETWORKS, Network, statistics

# Channels that each block ends with, the first of which is a plain convolution, and the blocks that halve the size.
WIDTHS = (32, 64, 128, 128, 256, 256, *[512] * 6, 1024, 1024)
HALVING = (0, 2, 4, 6, 12)
# block -> the stage that it ends.
STAGES = {0: STEM, 3: "stage1", 5: "stage2", 11: "stage3", 13: "stage4"}


class MobileNetV1(Network):
    """A network of depthwise and pointwise convolutions in turn, with the parameter names of the public code.

    Stages end with the blocks of 128, 256, 512 and 1024 channels, where the height of the image is divided by 4, 8, 16
    and 32 as in a ResNet of ImageNet; the ``stem``, of 32 channels, by 2. All are tapped before and after their
    activation. The classifier reads the mean over the positions, which is the public code's pooling of 7 pixels.

    First weights are PyTorch's, as in the public code.

    Source: Howard et al., MobileNets (2017), arXiv 1704.04861, table 1; names and taps of mdistiller's MobileNetV1,
    whose 68.87 % top-1 is the baseline of ReviewKD, DKD and TSKD.
    """

    cuttable = True

    def __init__(self, classes: int, channels: int = 3) -> None:
        """Build the network of width 1."""
        super().__init__()
        blocks = [nn.Sequential(*_layers(channels, WIDTHS[0], 3, stride=2))]
        for number, (inputs, outputs) in enumerate(pairwise(WIDTHS), start=1):
            depthwise = _layers(inputs, inputs, 3, stride=2 if number in HALVING else 1, groups=inputs)
            blocks.append(nn.Sequential(*depthwise, *_layers(inputs, outputs, 1)))
        self.model = nn.Sequential(*blocks)
        self.fc = nn.Linear(WIDTHS[-1], classes)

    def forward(self, images: Tensor, batch: Batch | None = None, *, heads: bool = True) -> Classified | Features:
        """Map images ``[B, channels, H, W]`` to their output, or to their features alone; the batch is not read."""
        features: dict[str, Tensor] = {}
        preactivations: dict[str, Tensor] = {}
        maps = images
        for number, block in enumerate(self.model):
            stage = STAGES.get(number)
            if stage is None:
                maps = block(maps)
                continue
            for layer in list(cast("nn.Sequential", block))[:-1]:
                maps = layer(maps)
            preactivations[stage] = maps
            features[stage] = maps = F.relu(maps)  # not in place: what the activation reads is tapped too
        if not heads:
            return Features(features, preactivations)
        embedding = maps.mean(dim=(2, 3))
        return Classified(self.fc(embedding), features, preactivations, embedding)

    def stage_norms(self) -> Mapping[str, BatchNormStatistics]:
        """Return the last batch norm of the stem and of each stage."""
        blocks = {stage: cast("nn.Sequential", self.model[number]) for number, stage in STAGES.items()}
        return statistics({stage: cast("nn.BatchNorm2d", block[-2]) for stage, block in blocks.items()})


def _layers(inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


@NETWORKS.register("mobilenet_v1", source="Howard et al. 2017, arXiv 1704.04861; names and taps of mdistiller")
def build(classes: int, channels: int = 3) -> MobileNetV1:
    """MobileNetV1 of width 1 for images of about 224 pixels: 4.2 million parameters with 1000 classes."""
    return MobileNetV1(classes, channels)
