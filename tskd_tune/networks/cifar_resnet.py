"""The residual networks of CIFAR: basic blocks in three stages, tapped before and after their last activation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from tskd_tune.contracts import STEM, BatchNormStatistics
from tskd_tune.networks.base import NETWORKS, statistics
from tskd_tune.networks.staged import Staged

Widths = tuple[int, int, int, int]

NARROW: Widths = (16, 16, 32, 64)
WIDE: Widths = (32, 64, 128, 256)
STRIDES = (1, 2, 2)

# name -> basic blocks a stage, and the channels of the stem and of the three stages; the depth is 6 * blocks + 2.
LAYOUTS: dict[str, tuple[int, Widths]] = {
    "resnet8": (1, NARROW),
    "resnet14": (2, NARROW),
    "resnet20": (3, NARROW),
    "resnet32": (5, NARROW),
    "resnet44": (7, NARROW),
    "resnet56": (9, NARROW),
    "resnet110": (18, NARROW),
    "resnet8x4": (1, WIDE),
    "resnet32x4": (5, WIDE),
}


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut, which is a projection where the channels or the size change.

    Source: He et al., Deep Residual Learning for Image Recognition (2016), equations 1 and 2.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        """Map ``inputs`` channels to ``outputs`` channels, the size divided by ``stride``."""
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = _projection(inputs, outputs, stride) if stride != 1 or inputs != outputs else None

    def forward(self, images: Tensor) -> Tensor:
        """Map ``[B, inputs, H, W]`` to the sum ``[B, outputs, H / stride, W / stride]`` before its activation."""
        residual: Tensor = F.relu(self.bn1(self.conv1(images)), inplace=True)
        residual = self.bn2(self.conv2(residual))
        residual += images if self.downsample is None else self.downsample(images)
        return residual


class CifarResNet(Staged):
    """A residual network of 3 stages for small images of any size, with the field's parameter names.

    ``features`` are taken after the activation, ``preactivations`` before it: the batch norm of the stem and the
    sum of each stage's last block.

    Source: He et al. (2016), section 4.2; the projection shortcuts and names of the RepDistiller code.
    """

    def __init__(self, blocks: int, widths: Widths, classes: int, channels: int = 3) -> None:
        """Stack ``blocks`` basic blocks a stage; ``widths`` are the channels of the stem and of the stages."""
        super().__init__()
        self.conv1 = nn.Conv2d(channels, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.layer1 = _stage(blocks, widths[0], widths[1], STRIDES[0])
        self.layer2 = _stage(blocks, widths[1], widths[2], STRIDES[1])
        self.layer3 = _stage(blocks, widths[2], widths[3], STRIDES[2])
        self.fc = nn.Linear(widths[3], classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def _classifier(self) -> nn.Linear:
        return self.fc

    def stage_norms(self) -> Mapping[str, BatchNormStatistics]:
        """Return the batch norm of the stem and, for each stage, the second one of its last block."""
        norms = {STEM: self.bn1}
        norms |= {stage: cast("BasicBlock", blocks[-1]).bn2 for stage, blocks in self._stages().items()}
        return statistics(norms)

    def _stages(self) -> dict[str, nn.Sequential]:
        return {"stage1": self.layer1, "stage2": self.layer2, "stage3": self.layer3}


def _projection(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


def _stage(blocks: int, inputs: int, outputs: int, stride: int) -> nn.Sequential:
    first = BasicBlock(inputs, outputs, stride)
    return nn.Sequential(first, *(BasicBlock(outputs, outputs, 1) for _ in range(blocks - 1)))


def _register(name: str, blocks: int, widths: Widths) -> Callable[..., CifarResNet]:
    @NETWORKS.register(name, source="He et al. 2016, arXiv 1512.03385; widths and names of RepDistiller")
    def build(classes: int, channels: int = 3) -> CifarResNet:
        return CifarResNet(blocks, widths, classes, channels)

    build.__doc__ = f"The residual network of depth {6 * blocks + 2}; stem and stages of {widths} channels."
    return build


for _name, (_blocks, _widths) in LAYOUTS.items():
    _register(_name, _blocks, _widths)
