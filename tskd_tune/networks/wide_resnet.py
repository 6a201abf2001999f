"""Wide residual networks for CIFAR: pre-activation blocks in three stages, tapped at the raw sums of the blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from tskd_tune.contracts import STEM, Batch, BatchNormStatistics, Classified, Features
from tskd_tune.networks.base import NETWORKS, Network, behind, statistics

STEM_WIDTH = 16
STAGES = (STEM, "stage1", "stage2", "stage3")

# name -> pre-activation blocks a stage, and the widening factor; the depth is 6 * blocks + 4.
LAYOUTS: dict[str, tuple[int, int]] = {
    "wrn_16_1": (2, 1),
    "wrn_16_2": (2, 2),
    "wrn_40_1": (6, 1),
    "wrn_40_2": (6, 2),
}


class WideBlock(nn.Module):
    """Batch norm and activation before each of two 3x3 convolutions.

    Where the channels change, the shortcut is a 1x1 convolution without a batch norm, and it reads the activated
    input; elsewhere the shortcut is the raw input.

    Source: Zagoruyko and Komodakis, Wide Residual Networks (2016), section 2, after He et al., Identity Mappings
    in Deep Residual Networks (2016).
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        """Map ``inputs`` channels to ``outputs`` channels, the size divided by ``stride``."""
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        # Written as the checkpoints of the field spell it.
        self.convShortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if inputs != outputs else None

    def forward(self, total: Tensor, *, tapped: bool = True) -> tuple[Tensor, Tensor]:
        """Map the raw sum ``[B, inputs, H, W]`` to the next one, and return the input's batch norm beside it.

        The batch norm of a stage's sum is its pre-activation. Others are not ``tapped``, and are activated in place.
        """
        normed: Tensor = self.bn1(total)
        activated = F.relu(normed, inplace=not tapped)
        residual: Tensor = self.conv2(F.relu(self.bn2(self.conv1(activated)), inplace=True))
        residual += total if self.convShortcut is None else self.convShortcut(activated)
        return residual, normed


class WideStage(nn.Module):
    """Blocks of one width; only the first one changes the channels and the size."""

    def __init__(self, blocks: int, inputs: int, outputs: int, stride: int) -> None:
        """Stack ``blocks`` blocks."""
        super().__init__()
        first = WideBlock(inputs, outputs, stride)
        self.layer = nn.Sequential(first, *(WideBlock(outputs, outputs, 1) for _ in range(blocks - 1)))

    @property
    def norm(self) -> nn.BatchNorm2d:
        """The batch norm that reads the sum of the stage before this one."""
        return cast("WideBlock", self.layer[0]).bn1

    def forward(self, total: Tensor) -> tuple[Tensor, Tensor]:
        """Map the sum of the stage before to this stage's, and return the former's pre-activation beside it."""
        total, preactivation = self.layer[0](total)
        for block in self.layer[1:]:
            total, _ = block(total, tapped=False)
        return total, preactivation


class WideResNet(Network):
    """A wide residual network of 3 stages for small images of any size, with the field's parameter names.

    ``features`` are raw: the stem's convolution and the sum of each stage's last block, both signed.
    ``preactivations`` are the same maps after the batch norm that reads them, the next block's first one or the
    final one, which each run once a forward.

    Source: Zagoruyko and Komodakis, Wide Residual Networks (2016), table 1; the taps of the RepDistiller code.
    """

    def __init__(self, blocks: int, widening: int, classes: int, channels: int = 3) -> None:
        """Stack ``blocks`` blocks a stage, of 16, 32 and 64 times ``widening`` channels."""
        super().__init__()
        widths = (STEM_WIDTH, 16 * widening, 32 * widening, 64 * widening)
        self.conv1 = nn.Conv2d(channels, STEM_WIDTH, 3, padding=1, bias=False)
        self.block1, self.block2, self.block3 = (
            WideStage(blocks, inputs, outputs, stride)
            for (inputs, outputs), stride in zip(pairwise(widths), (1, 2, 2), strict=True)
        )
        self.bn1 = nn.BatchNorm2d(widths[3])
        self.fc = nn.Linear(widths[3], classes)
        nn.init.zeros_(self.fc.bias)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    cuttable = True

    def forward(self, images: Tensor, batch: Batch | None = None, *, heads: bool = True) -> Classified | Features:
        """Map images ``[B, channels, H, W]`` to their output, or to their features alone; the batch is not read.

        ``stem`` and ``stage1`` keep the size of the images.
        """
        stem: Tensor = self.conv1(images)
        first, stem_normed = self.block1(stem)
        second, first_normed = self.block2(first)
        third, second_normed = self.block3(second)
        third_normed = self.bn1(third)
        features = dict(zip(STAGES, (stem, first, second, third), strict=True))
        normed = dict(zip(STAGES, (stem_normed, first_normed, second_normed, third_normed), strict=True))
        if not heads:
            return Features(features, normed)
        embedding = F.relu(third_normed).mean(dim=(2, 3))
        return Classified(self.fc(embedding), features, normed, embedding)

    def stage_norms(self) -> Mapping[str, BatchNormStatistics]:
        """Return, by stage, the batch norm that reads its sum."""
        norms = (self.block1.norm, self.block2.norm, self.block3.norm, self.bn1)
        return statistics(dict(zip(STAGES, norms, strict=True)))

    def tail(self, stage: str) -> nn.Module:
        """Return the network behind a stage, the stem or another; see `Network.tail`."""
        stages = dict(zip(STAGES[1:], (self.block1, self.block2, self.block3), strict=True))
        return _Tail((stages[name] for name in behind(stage, STAGES)), self.bn1, self.fc)


class _Tail(nn.Module):
    """The last stages of a network, its final batch norm and its classifier."""

    def __init__(self, stages: Iterable[WideStage], bn: nn.BatchNorm2d, fc: nn.Linear) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.bn1 = bn
        self.fc = fc

    def forward(self, total: Tensor) -> Tensor:
        """Map a stage's raw sums ``[B, C, H, W]`` to logits ``[B, classes]``."""
        for stage in self.stages:
            total, _ = stage(total)
        logits: Tensor = self.fc(F.relu(self.bn1(total)).mean(dim=(2, 3)))
        return logits


def _register(name: str, blocks: int, widening: int) -> Callable[..., WideResNet]:
    @NETWORKS.register(name, source="Zagoruyko and Komodakis 2016, arXiv 1605.07146; taps and names of RepDistiller")
    def build(classes: int, channels: int = 3) -> WideResNet:
        return WideResNet(blocks, widening, classes, channels)

    build.__doc__ = f"The wide residual network of depth {6 * blocks + 4}, widened {widening} times."
    return build


for _name, (_blocks, _widening) in LAYOUTS.items():
    _register(_name, _blocks, _widening)
