"""The networks of the reference loop, frozen like the loop; see `benchmarks.reference`.

This file imports nothing of ``tskd_tune``. The parameters have the names of the package's networks, so that both can
begin with the same weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

RESNETS = {"resnet8": 1, "resnet14": 2, "resnet20": 3, "resnet32": 5, "resnet44": 7, "resnet56": 9, "resnet110": 18}
WIDE = {"wrn_16_1": (2, 1), "wrn_16_2": (2, 2), "wrn_40_1": (6, 1), "wrn_40_2": (6, 2)}

Features = list[Tensor]


class Block(nn.Module):
    """A basic block; returns the sum before its activation."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, images: Tensor) -> Tensor:
        """Map ``[B, inputs, H, W]`` to ``[B, outputs, H / stride, W / stride]``."""
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(images)))))
        summed: Tensor = out + (images if self.downsample is None else self.downsample(images))
        return summed


class ResNet(nn.Module):
    """The residual network of CIFAR; returns logits and the features of its three stages."""

    def __init__(self, blocks: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1, self.layer2, self.layer3 = (
            nn.Sequential(Block(a, b, stride), *(Block(b, b, 1) for _ in range(blocks - 1)))
            for a, b, stride in ((16, 16, 1), (16, 32, 2), (32, 64, 2))
        )
        self.fc = nn.Linear(64, classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Features]:
        """Return logits ``[B, classes]`` and three feature maps."""
        out = F.relu(self.bn1(self.conv1(images)))
        features = []
        for stage in (self.layer1, self.layer2, self.layer3):
            for block in stage:
                out = F.relu(block(out))
            features.append(out)
        return self.fc(out.mean(dim=(2, 3))), features


class WideBlock(nn.Module):
    """A pre-activation block."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.convShortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if inputs != outputs else None

    def forward(self, total: Tensor) -> Tensor:
        """Map the raw sum to the next one."""
        activated = F.relu(self.bn1(total))
        shortcut = total if self.convShortcut is None else self.convShortcut(activated)
        summed: Tensor = shortcut + self.conv2(F.relu(self.bn2(self.conv1(activated))))
        return summed


class WideStage(nn.Module):
    """Blocks of one width."""

    def __init__(self, blocks: int, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        first = WideBlock(inputs, outputs, stride)
        self.layer = nn.Sequential(first, *(WideBlock(outputs, outputs, 1) for _ in range(blocks - 1)))

    def forward(self, total: Tensor) -> Tensor:
        """Map the raw sum to the next stage's."""
        summed: Tensor = self.layer(total)
        return summed


class WideResNet(nn.Module):
    """The wide residual network of CIFAR; returns logits and the raw sums of its three stages."""

    def __init__(self, blocks: int, widening: int, classes: int) -> None:
        super().__init__()
        widths = (16, 16 * widening, 32 * widening, 64 * widening)
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.block1, self.block2, self.block3 = (
            WideStage(blocks, a, b, stride) for (a, b), stride in zip(pairwise(widths), (1, 2, 2), strict=True)
        )
        self.bn1 = nn.BatchNorm2d(widths[3])
        self.fc = nn.Linear(widths[3], classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Features]:
        """Return logits ``[B, classes]`` and three feature maps."""
        first = self.block1(self.conv1(images))
        second = self.block2(first)
        third = self.block3(second)
        return self.fc(F.relu(self.bn1(third)).mean(dim=(2, 3))), [first, second, third]


def network(name: str, classes: int) -> nn.Module:
    """Build a network by the package's name for it."""
    return ResNet(RESNETS[name], classes) if name in RESNETS else WideResNet(*WIDE[name], classes)


class Cell(nn.Module):
    """The recurrent half of a ConvLSTM with peepholes per channel; the gates are i, f, c, o."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.recurrent = nn.Conv2d(hidden, 4 * hidden, 3, padding=1, bias=False)
        self.peep_input, self.peep_forget, self.peep_output = (
            nn.Parameter(torch.zeros(1, hidden, 1, 1)) for _ in range(3)
        )

    def forward(self, projected: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Go one step on."""
        hidden, cell = state
        i, f, c, o = (projected + self.recurrent(hidden)).chunk(4, 1)
        i, f = torch.sigmoid(i + self.peep_input * cell), torch.sigmoid(f + self.peep_forget * cell)
        cell = f * cell + i * torch.tanh(c)
        return torch.sigmoid(o + self.peep_output * cell) * torch.tanh(cell), cell


class Bias(nn.Module):
    """The projection of an input of zeros."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(4 * hidden))


class ConvLSTM(nn.Module):
    """Encoder and forecaster of one layer each; every step convolves its input and its state."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.encoder_input = nn.Conv2d(1, 4 * hidden, 3, padding=1)
        self.encoder = Cell(hidden)
        self.forecaster_input = Bias(hidden)
        self.forecaster = Cell(hidden)
        self.head = nn.Conv2d(hidden, 1, 1)

    def forward(self, sequence: Sequence[Tensor]) -> Tensor:
        """Map maps ``[B, 1, H, W]``, oldest first, to ``[B, 1, H, W]``."""
        zeros = sequence[0].new_zeros(sequence[0].shape[0], self.hidden, *sequence[0].shape[2:])
        state = (zeros, zeros)
        for map_ in sequence:
            state = self.encoder(self.encoder_input(map_), state)
        hidden, _ = self.forecaster(self.forecaster_input.bias.view(1, -1, 1, 1), state)
        prediction: Tensor = self.head(hidden)
        return prediction
