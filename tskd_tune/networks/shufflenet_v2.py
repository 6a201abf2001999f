"""ShuffleNetV2 for small images: half of the channels pass each block unchanged, then all are shuffled."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tskd_tune.contracts import STEM, BatchNormStatistics
from tskd_tune.networks.base import NETWORKS, statistics
from tskd_tune.networks.shufflenet import pointwise_stem, shuffled, stages
from tskd_tune.networks.staged import Tapped

STEM_WIDTH = 24
WIDTHS = (STEM_WIDTH, 116, 232, 464)
DEPTHS = (3, 7, 3)
LAST = 1024


class SplitBlock(nn.Module):
    """Three convolutions on the second half of the channels; the first half passes.

    Source: Ma et al., ShuffleNet V2 (2018), figure 3 (c).
    """

    def __init__(self, channels: int) -> None:
        """Map ``channels`` channels to as many, in the same size."""
        super().__init__()
        half = channels // 2
        self.conv1 = nn.Conv2d(half, half, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(half)
        self.conv2 = nn.Conv2d(half, half, 3, padding=1, groups=half, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(half, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the shuffled halves ``[B, channels, H, W]`` after and before the second one's activation."""
        passed, worked = images.chunk(2, dim=1)
        worked = F.relu(self.bn1(self.conv1(worked)), inplace=True)
        worked = self.bn3(self.conv3(self.bn2(self.conv2(worked))))
        before = torch.cat((passed, worked), 1)
        return shuffled(torch.cat((passed, F.relu(worked)), 1), 2), shuffled(before, 2)


class DownBlock(nn.Module):
    """Two branches on all channels, each of which halves the size and gives half of the outputs.

    Source: Ma et al. (2018), figure 3 (d).
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        """Map ``inputs`` channels to ``outputs`` channels."""
        super().__init__()
        half = outputs // 2
        self.conv1 = nn.Conv2d(inputs, inputs, 3, 2, padding=1, groups=inputs, bias=False)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv2 = nn.Conv2d(inputs, half, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(inputs, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)
        self.conv4 = nn.Conv2d(half, half, 3, 2, padding=1, groups=half, bias=False)
        self.bn4 = nn.BatchNorm2d(half)
        self.conv5 = nn.Conv2d(half, half, 1, bias=False)
        self.bn5 = nn.BatchNorm2d(half)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the shuffled branches ``[B, outputs, H / 2, W / 2]`` after and before their activation."""
        left = self.bn2(self.conv2(self.bn1(self.conv1(images))))
        right = F.relu(self.bn3(self.conv3(images)), inplace=True)
        right = self.bn5(self.conv5(self.bn4(self.conv4(right))))
        before = shuffled(torch.cat((left, right), 1), 2)
        return F.relu(before), before


class ShuffleNetV2(Tapped):
    """A network of split blocks in 3 stages for small images of any size, with the field's parameter names.

    The stem is a 1x1 convolution that keeps the size; each stage halves it. ``features`` are taken after the
    activation and ``preactivations`` before it, where the channels that pass a stage's last block have their
    activation behind them already. Both have the order of the channels after the shuffle; the public code leaves
    pre-activations in the order before it. No stage but the stem has a batch norm for all of its channels.

    Source: Ma et al. (2018), table 5 at width 1; stem and names of the RepDistiller code (ShuffleV2).
    """

    def __init__(self, classes: int, channels: int = 3) -> None:
        """Stack 3, 7 and 3 split blocks behind the first blocks of the stages."""
        super().__init__()
        self.conv1, self.bn1 = pointwise_stem(channels, STEM_WIDTH)
        self.layer1, self.layer2, self.layer3 = stages(_stage, DEPTHS, WIDTHS)
        self.conv2 = nn.Conv2d(WIDTHS[-1], LAST, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(LAST)
        self.linear = nn.Linear(LAST, classes)

    def _classifier(self) -> nn.Linear:
        return self.linear

    def _advance(self, block: nn.Module, activated: Tensor, *, tapped: bool) -> tuple[Tensor, Tensor]:
        after, before = block(activated)
        return after, before

    def _embedding(self, activated: Tensor) -> Tensor:
        return F.relu(self.bn2(self.conv2(activated)), inplace=True).mean(dim=(2, 3))

    def stage_norms(self) -> Mapping[str, BatchNormStatistics]:
        """Return the batch norm of the stem; half of a stage's channels have none before their pre-activation."""
        return statistics({STEM: self.bn1})

    def _stages(self) -> dict[str, nn.Sequential]:
        return {"stage1": self.layer1, "stage2": self.layer2, "stage3": self.layer3}


def _stage(depth: int, inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(DownBlock(inputs, outputs), *(SplitBlock(outputs) for _ in range(depth)))


@NETWORKS.register("shufflenet_v2", source="Ma et al. 2018, arXiv 1807.11164; stem and names of RepDistiller")
def build(classes: int, channels: int = 3) -> ShuffleNetV2:
    """ShuffleNetV2 of width 1 for small images: RepDistiller's ShuffleV2."""
    return ShuffleNetV2(classes, channels)
