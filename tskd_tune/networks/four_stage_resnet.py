"""The residual networks of ImageNet with the stem of CIFAR: four stages, tapped before and after their activation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, cast

import torch.nn.functional as F
from torch import Tensor, nn

from tskd_tune.contracts import STEM, BatchNormStatistics
from tskd_tune.networks.base import NETWORKS, statistics
from tskd_tune.networks.staged import Staged

STEM_WIDTH = 64
WIDTHS = (64, 128, 256, 512)
STRIDES = (1, 2, 2, 2)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut, which is a projection where the channels or the size change.

    Source: He et al., Deep Residual Learning for Image Recognition (2016), figure 5, left.
    """

    expansion: ClassVar[int] = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        """Map ``inputs`` channels to ``width`` channels, the size divided by ``stride``."""
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = _shortcut(inputs, width, stride)

    @property
    def norm(self) -> nn.BatchNorm2d:
        """The last batch norm before the sum."""
        return self.bn2

    def forward(self, images: Tensor) -> Tensor:
        """Map ``[B, inputs, H, W]`` to the sum ``[B, width, H / stride, W / stride]`` before its activation."""
        residual: Tensor = F.relu(self.bn1(self.conv1(images)), inplace=True)
        residual = self.bn2(self.conv2(residual))
        residual += self.shortcut(images)
        return residual


class Bottleneck(nn.Module):
    """A 3x3 convolution between two of 1x1, the last of which widens four times, around a shortcut.

    The 3x3 convolution has the stride, as in the public code; the paper's first one has it.

    Source: He et al. (2016), figure 5, right.
    """

    expansion: ClassVar[int] = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        """Map ``inputs`` channels to ``4 * width`` channels, the size divided by ``stride``."""
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, self.expansion * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(self.expansion * width)
        self.shortcut = _shortcut(inputs, self.expansion * width, stride)

    @property
    def norm(self) -> nn.BatchNorm2d:
        """The last batch norm before the sum."""
        return self.bn3

    def forward(self, images: Tensor) -> Tensor:
        """Map ``[B, inputs, H, W]`` to the sum ``[B, 4 * width, H / stride, W / stride]`` before its activation."""
        residual: Tensor = F.relu(self.bn1(self.conv1(images)), inplace=True)
        residual = F.relu(self.bn2(self.conv2(residual)), inplace=True)
        residual = self.bn3(self.conv3(residual))
        residual += self.shortcut(images)
        return residual


Block = type[BasicBlock] | type[Bottleneck]

# name -> the kind of block, and the blocks of each of the four stages.
LAYOUTS: dict[str, tuple[Block, tuple[int, ...]]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
}


class FourStageResNet(Staged):
    """A residual network of 4 stages for small images of any size, with the field's parameter names.

    The stem is one 3x3 convolution without pooling, so that 32 pixels become 32, 16, 8 and 4 in the stages.
    ``features`` are taken after the activation, ``preactivations`` before it: the batch norm of the stem and the
    sum of each stage's last block.

    Source: He et al. (2016), table 1; the stem of its section 4.2; names of the RepDistiller code.
    """

    def __init__(self, block: Block, depths: tuple[int, ...], classes: int, channels: int = 3) -> None:
        """Stack ``depths`` blocks in the four stages."""
        super().__init__()
        self.conv1 = nn.Conv2d(channels, STEM_WIDTH, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM_WIDTH)
        inputs = (STEM_WIDTH, *(width * block.expansion for width in WIDTHS[:-1]))
        stages = (_stage(block, *layout) for layout in zip(depths, inputs, WIDTHS, STRIDES, strict=True))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.linear = nn.Linear(WIDTHS[-1] * block.expansion, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def _classifier(self) -> nn.Linear:
        return self.linear

    def stage_norms(self) -> Mapping[str, BatchNormStatistics]:
        """Return the batch norm of the stem and, for each stage, the last one of its last block."""
        last = {stage: cast("BasicBlock | Bottleneck", blocks[-1]) for stage, blocks in self._stages().items()}
        return statistics({STEM: self.bn1, **{stage: block.norm for stage, block in last.items()}})

    def _stages(self) -> dict[str, nn.Sequential]:
        return {"stage1": self.layer1, "stage2": self.layer2, "stage3": self.layer3, "stage4": self.layer4}


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """Return a projection where the channels or the size change, and else what changes nothing."""
    if stride == 1 and inputs == outputs:
        return nn.Sequential()
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


def _stage(block: Block, depth: int, inputs: int, width: int, stride: int) -> nn.Sequential:
    rest = (block(width * block.expansion, width, 1) for _ in range(depth - 1))
    return nn.Sequential(block(inputs, width, stride), *rest)


def _register(name: str, block: Block, depths: tuple[int, ...]) -> Callable[..., FourStageResNet]:
    @NETWORKS.register(name, source="He et al. 2016, arXiv 1512.03385; stem and names of RepDistiller (resnetv2)")
    def build(classes: int, channels: int = 3) -> FourStageResNet:
        return FourStageResNet(block, depths, classes, channels)

    build.__doc__ = f"The four-stage residual network {name} with the stem of CIFAR; {depths} {block.__name__}s."
    return build


for _name, (_block, _depths) in LAYOUTS.items():
    _register(_name, _block, _depths)
